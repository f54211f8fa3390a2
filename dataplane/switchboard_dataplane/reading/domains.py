"""Says what field a turn is about, by the words of the fields.

A word that belongs to one field alone speaks louder than one that fields share.
"""

from collections.abc import Mapping
from typing import Final

from switchboard_dataplane.reading.turns import Turn

_STRONG: Final = 3
_PLAIN: Final = 1

#: The words of a field: the telling ones, then those that only lean to it. A word ending with *
#: stands for all that begin so.
_FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    "legal": (
        "plaintiff* defendant* lawsuit attorney* lawyer* solicitor barrister statut* tort* hearsay"
        " jurisdiction* testif* testimony litigation indict* prosecut* felony misdemeanor"
        " unconstitutional inadmissible admissible subpoena gdpr copyright* trademark* patent"
        " indemn* arbitration probate custody landlord tenant* lease eviction contractual deed"
        " negligen* liable liability easement conveyed mortgagee habeas affidavit verdict appellate"
        " court* sued suing clause* nda notary juris* treaty treaties anwalt klage gericht vertrag"
        " mietvertrag kündigung avocat tribunal contrat abogado juzgado contrato demanda avvocato",
        "law laws legal contract* crime* guilty murder* damages rights sue judge* jury trial*"
        " breach clause agreement evidence witness* arrest* police charged convicted robbery theft"
        " owner property land will buyer seller entitled defense notice constitution* burglary"
        " recover prevail* against action owned enacted sale promised suit constitutional*"
        " sovereignty sources compliance terms dispute*",
    ),
    "medical": (
        "patient patients diagnos* symptom* disease* medication* dosage prescri* physician* doctor"
        " nurse surgery surgical cardiac cardiovascular pulmonary hypertension diabetes diabetic"
        " insulin vaccin* virus* viral bacterial infection* antibiotic* cancer tumor tumour biopsy"
        " mri abdominal abdomen fever pregnan* fetal chronic syndrome* vitamin* nutrient*"
        " nutrition*"
        " dietary diet obesity cholesterol glucose serum intravenous clinical hospital anatomy"
        " artery"
        " arteries nerve nerves lymph* liver kidney renal lung lungs bone bones muscle* ligament*"
        " pelvic venous urinary edema headache migraine rash allerg* ibuprofen paracetamol aspirin"
        " metformin hiv glycogen glycolysis pyruvate lactate chromosom* autosomal congenital"
        " arzt krankheit symptome schmerzen médecin maladie douleur médico enfermedad dolor medico"
        " malattia mortality elderly ageing adults longevity hearing dementia alzheimer* stroke"
        " catheter* wound swallow* tongue teeth tooth dental jaw skull vertebra*",
        "medical medicine health pain treatment* therapy blood pressure pulse exam examination"
        " acids weight healthy disorder* breath* cells protein* tissue age women men body risk"
        " calcium iron intake carbohydrate* amino skin cranial eye drug drugs fat sleep injury",
    ),
    "finance": (
        "invest* portfolio dividend* stock stocks bond bonds mortgage* loan* interest bank banking"
        " credit debit tax taxes taxation irs ira 401k audit* accountant* accounting depreciation"
        " ledger balance invoice* payroll revenue* earnings asset assets equity ebitda gdp"
        " inflation"
        " unemployment monetary fiscal marginal oligopoly monopol* elasticity macroeconomic*"
        " microeconomic* economist* economy econom* heteroscedasticity autocorrelation regressors"
        " securities hedge currency crypto bitcoin forex budget* deficit surplus nonissuer"
        " cash cashflow financial finance aktien steuer steuern kredit konto bourse impôt crédit"
        " acciones impuestos banco préstamo azioni tasse banca curve aggregate estimator ols",
        "price prices pricing cost costs money market demand supply income rate rates value capital"
        " exports imports increase decrease* rises falls profit* dollar* euro euros spending save"
        " saving savings expense* firm firms labor wage* output production stationary equilibrium"
        " estimate* residuals quantity consumer loss losses",
    ),
    "business": (
        "marketing advertis* brand* stakeholder* ceo startup kpi okr swot segmentation hr recruit*"
        " onboarding hiring resume cv supplier* procurement logistics saas b2b b2c crm roi sales"
        " manager* management leadership entrepreneur* pitch retailer* campaign* csr accountability"
        " organisational organizational organisation* organization* workplace employer* employee*"
        " ethics corporate corporation* shareholder*",
        "business company companies customer* customers product* strategy strategic meeting client"
        " clients public relations communication* media consumers promotion team project agenda"
        " negotiat* responsibilit* internal message communicat* planning ethical decision*",
    ),
    "support": (
        "refund* reimburs* order shipping shipped delivery deliver* tracking warranty return"
        " returned cancel cancellation subscription unsubscribe login password reset invoice billed"
        " billing charged account helpdesk ticket customer-service chargeback exchange damaged"
        " defective complaint* reklamation lieferung bestellung erstattung remboursement commande"
        " livraison reembolso pedido envío rimborso ordine spedizione",
        "help issue problem broken received arrived package item support service contact agent"
        " representative email locked update upgrade plan working app",
    ),
    "software": (
        "python javascript typescript java rust golang kotlin react django kubernetes docker sql"
        " api apis json regex html css git github compile* algorithm* recursion pointer array*"
        " debug* refactor* backend frontend database* server* linux bash unix http tcp ip dns"
        " encrypt* cryptograph* authentication malware hacker* phishing firewall buffer overflow"
        " xss csrf hash bytes boolean classifier* overfitting neural gradient backpropagation lstm"
        " transformer* pytorch tensorflow svm clustering cpu gpu cache compiler* opcode code coding"
        " programmer* software bug deploy* devops microservice* terraform aws azure vulnerabilit*"
        " attacker* fuzz* kernel thread threads deadlock npm pip exception stacktrace traceback"
        " runtime nodes pixel pixels tor bagging boosting",
        "function functions program* class method variable* loop list stack queue graph tree"
        " binary computer* data network memory machine learning training file files input output"
        " test query user users protocol search integer* string* true false system model models",
    ),
    "math": (
        "equation* integral* derivative* polynomial* theorem lemma proof integers isomorphi*"
        " homomorphism* subgroup* abelian ring rings eigenvalue* matrix matrices vector sqrt frac"
        " mathrm cdot triangle* hypotenuse circumference perimeter quadratic logarithm calculus"
        " algebra* geometry geometric trigonometr* probability probabilities permutation*"
        " combinatorics deviation median histogram variance unbiased confidence hypothesis"
        " factorial divisible divisor* denominator* numerator fraction* multiplication subtract*"
        " bijection cyclic finite factor* parabola rectangle* quotient remainder cube cubic dice"
        " correlation scatterplot",
        "number numbers sum product solve compute calculate random sample* expression function"
        " equal equals times each group field circle angle* area degree* mean average percent"
        " inches feet miles ratio value values find total interval statement digits real greatest"
        " nearest survey* randomized observational experiment bounded sampled variable how",
    ),
    "science": (
        "electron* proton* neutron* photon* quantum magnet* wavelength* frequency velocity momentum"
        " acceleration gravit* kinetic thermodynamic* entropy molecule* molecular atom atoms atomic"
        " ion ions oxid* chemical* chemistry reaction* acid base alkali solvent* molar mole moles"
        " hydrogen helium nitrogen oxygen carbon physics telescope planet* mars jupiter* saturn"
        " venus moon moons solar asteroid* comet galaxy galaxies star stars astronom* orbit*"
        " species evolution* genetic* gene genes dna rna mutation* mitochond* chloroplast*"
        " photosynth*"
        " organism* prokaryot* eukaryot* enzyme* ecosystem* predat* circuit* voltage resistor*"
        " capacit* transistor* inductor amplifier oscillat* ohm watt alleles allele offspring"
        " meiosis"
        " mitosis ecology biology biological geolog* climate earthquake* spectr* radiation heat"
        " refraction lens thermal isotope* nucleus nuclear plant plants neon friction ammonia",
        "energy mass force light temperature water earth cell cells speed object surface gas gases"
        " liquid membrane population* selection waves wave sound distance pressure field current"
        " metal air density charge charged motion power electric equilibrium zero particle* rest"
        " vegetation animals material",
    ),
    "humanities": (
        "century centuries empire emperor* king kings queen dynasty medieval renaissance"
        " reformation"
        " revolution* colonial colony colonies slavery slave slaves napoleon* roman romans greek"
        " archaeolog* neolithic paleolithic pleistocene hominid* homo neanderthal* civilization*"
        " philosoph* kant kantian plato aristotle hume nietzsche utilitarian* epistemolog*"
        " metaphys*"
        " theolog* religion* religious christian* christ church bible islam* muslim* quran jewish"
        " judaism torah buddh* hindu* sikh* daoist confuci* temple worship pope bishop* crusade*"
        " historian* ancient maya aztec inca pharaoh pyramids literature poet novelist art museum"
        " sculpture painting excerpt passage divine gods god sacred ritual* moral morality"
        " abolition*"
        " soul virtue peasants mankind guru",
        "history historical war wars world great europe* british french german spanish peoples"
        " culture* indian* trade union liberty slave nation king's land lands america*"
        " information refers religious society evidence sites artifacts sources century's",
    ),
    "politics": (
        "election* voter* voting vote senate senator* congress congressional president*"
        " presidential"
        " parliament* democra* republican* diplomacy diplomat* foreign securiti* geopolit* nato"
        " veto gerrymander* lobby* federalism hegemon* realist* realism constructiv* terroris*"
        " nuclear proliferation sovereignty minister government* governments legislat* bureaucra*"
        " campaign cabinet judiciary liberalism ideolog* embassy sanctions interest incumbent"
        " policymakers intergovernmental",
        "policy policies political politics security threat* power military international"
        " party parties global system actors war conflict* federal committee* supreme court"
        " national union american",
    ),
    "psychology": (
        "psycholog* psychotherap* therapist* psychiatr* cognitive behaviour* behavior* conditioning"
        " reinforcement freud* piaget jung* erikson gestalt attachment personality intelligence iq"
        " schizophreni* anxiety depression depressive anorexia phobia* emotion* arousal perception"
        " stimulus stimuli dissonance attribution sociolog* socializ* socialis* sexual* gender"
        " masculin* feminis* stereotype* counsel* self-esteem motivation durkheim weber goffman"
        " subculture* kinship family families marriage consciousness rorschach neurotransmitter*"
        " hippocampus amygdala adolescen* mmpi wais operant intercourse orgasm homosexual*"
        " deviance",
        "memory child children person people social research study test* theory school students"
        " scores skills phoneme* morpheme* retinal sensory punish* reward* autonomic predictor*"
        " difficulty"
        " client clients brain learning stress responses class behaviors experiment* feelings"
        " parents subjects group prejudice young status mental achievement",
    ),
}
DOMAINS: Final = ("general", *_FIELDS)

_STEM_CHARS_MIN: Final = 4
#: What must have gathered, and what more than the next field has.
_NAMED: Final = 2

#: Fields of a word, and how much it speaks for each.
_Says = list[tuple[str, int]]


def _by_word() -> dict[str, _Says]:
    """Return what each listed word says, a stem with its asterisk."""
    found: dict[str, _Says] = {}
    for field, (telling, leaning) in _FIELDS.items():
        for listed, weight in ((leaning, _PLAIN), (telling, _STRONG)):
            for word in listed.split():
                found.setdefault(word, []).append((field, weight))
    return found


def _by_start() -> dict[str, list[tuple[str, _Says]]]:
    """Return the stems by their first characters, the longest first, and what each says."""
    found: dict[str, list[tuple[str, _Says]]] = {}
    for word in sorted(_WORDS, key=len, reverse=True):
        if word.endswith("*"):
            stem = word.rstrip("*")
            found.setdefault(stem[:_STEM_CHARS_MIN], []).append((stem, _WORDS[word]))
    return found


#: Nobody's words end with an asterisk: a stem is not taken for one.
_WORDS: Final = _by_word()
_STEMS: Final = _by_start()


def read_domain(turn: Turn) -> str:
    """Return one of DOMAINS; of equals the earlier."""
    scores = score_domains(turn)
    best = max(scores.values(), default=0)
    if best < _NAMED:
        return "general"
    return next(field for field in DOMAINS if scores.get(field) == best)


def score_domains(turn: Turn) -> dict[str, int]:
    """Return what speaks for each field; a word counts once, however often it is there."""
    scores: dict[str, int] = {}
    for word in _WORDS.keys() & turn.bag:
        for field, weight in _WORDS[word]:
            scores[field] = scores.get(field, 0) + weight
    for word in turn.bag:
        for stem, says in _STEMS.get(word[:_STEM_CHARS_MIN], ()):
            # The longest stands first, and speaks alone.
            if word.startswith(stem):
                for field, weight in says:
                    scores[field] = scores.get(field, 0) + weight
                break
    return scores
