"""Balance: which endpoint of a tier gets an attempt, by what is true now.

A filter narrows the tier's endpoints to groups, the preferred one first; a few are drawn from a
group by chance; a scorer compares them. Drawing, not scanning: it costs the same for five
endpoints and for 5,000, and no two pods herd onto the same one. Chance breaks ties.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from switchboard_dataplane.decision.hashing import hash_key, pick_by_hash
from switchboard_dataplane.decision.running import Endpoint, Pool
from switchboard_dataplane.decision.scene import Scene
from switchboard_dataplane.decision.score import (
    Scorer,
    distance,
    expected_picodollars,
    score_latency,
    score_load,
    score_weighted,
)
from switchboard_policy import ir

#: Power of two choices: nearly as good as comparing all, and pods do not herd onto the best one.
CHOICES: Final = 2
#: A list of scorers needs more to choose among: the cheap, the near and the quick are not one.
SCORERS_CHOICES: Final = 8
#: Draws for each choice; where all of them fail (most are full, or out) the group is searched.
DRAWS: Final = 4

#: What is drawn from: tuples, as pools hold them.
Group = tuple[Endpoint, ...]
#: Where one in so many is ejected, draws are from a list of the others: a tier of thousands that
#: has lost most of them is not searched for every request.
OUT_ONE_IN: Final = 4

#: Narrows a pool to groups, the preferred one first.
Filter = Callable[[Pool, Scene], Iterator[Group]]


def pick(pool: Pool, scene: Scene) -> Endpoint | None:
    """Return the endpoint that gets the attempt; None if none of the pool may serve."""
    by = scene.balance.by
    checked = bool(pool.limited or scene.out or scene.spent)
    standing = standing_of(pool, scene) if scene.out else pool
    narrow = FILTERS.get(by)
    if narrow is not None:
        for group in narrow(standing, scene):
            endpoint = _pick_of(group, scene, checked=checked)
            if endpoint is not None:
                return endpoint
        return None
    if by == "Hash" and (key := hash_key(scene.view, scene.balance)):
        home = pick_by_hash(pool, key, scene, standing=standing)
        if home is not None:
            return home
    return _pick_of(standing.endpoints, scene, checked=checked)


def standing_of(pool: Pool, scene: Scene) -> Pool:
    """Return the pool of those that are not ejected where many are, else the pool itself.

    It is made anew when others are ejected, and remembered until then.
    """
    ejected = scene.signals.ejected
    out = sum([ejected.counts.get(backend.name, 0) for backend in pool.backends])
    if out * OUT_ONE_IN < len(pool.endpoints):
        return pool
    standing = pool.standing
    if standing is None or pool.era is not ejected.era:
        standing = pool.standing = Pool(
            backends=pool.backends,
            endpoints=tuple([one for one in pool.endpoints if one.id not in ejected]),
            limited=pool.limited,
        )
        pool.era = ejected.era
    return standing


def _pick_of(group: Group, scene: Scene, *, checked: bool) -> Endpoint | None:
    if len(group) == 1 and not checked:
        return group[0]
    by = scene.balance.by
    choices = SCORERS_CHOICES if by == "Scorers" else CHOICES
    drawn = _draw(group, choices, scene, checked=checked)
    if len(drawn) < CHOICES:
        return drawn[0] if drawn else None
    table = scene.signals
    signals = [table[endpoint.id] for endpoint in drawn]
    scorer = SCORER_OF.get(by)
    if scorer is None:
        costs = score_latency(drawn, signals, group, scene)
    else:
        costs = scorer(drawn, signals, group, scene)
    return drawn[_least(costs, scene)]


def _least(costs: list[float], scene: Scene) -> int:
    """Return where the least is; of some that are equal each has the same chance."""
    found, least, ties = 0, costs[0], 1
    for index in range(1, len(costs)):
        cost = costs[index]
        if cost < least:
            found, least, ties = index, cost, 1
        elif cost == least:
            ties += 1
            if scene.rng.random() * ties >= ties - 1:
                found = index
    return found


# === Filters ===


def _cheapest_first(pool: Pool, scene: Scene) -> Iterator[Group]:
    """Yield the endpoints of the cheapest backends first; those without a price come last."""
    prices = {backend.name: expected_picodollars(backend, scene.view) for backend in pool.backends}
    for price in sorted(set(prices.values())):
        names = tuple(name for name in prices if prices[name] == price)
        yield _part(pool, names, lambda endpoint: endpoint.backend.name)


def _nearest_first(pool: Pool, scene: Scene) -> Iterator[Group]:
    """Yield the data plane's own zone first, then its region, then what is beyond."""
    zone = scene.snapshot.zone
    for far in range(3):
        yield _part(pool, (far,), lambda endpoint: distance(endpoint, zone))


FILTERS: Final[dict[ir.BalanceBy, Filter]] = {
    "Cost": _cheapest_first,
    "Locality": _nearest_first,
}
#: By latency where nothing else is said, and where a hash has no key.
SCORER_OF: Final[dict[ir.BalanceBy, Scorer]] = {"Load": score_load, "Scorers": score_weighted}


def _part(pool: Pool, kinds: tuple[object, ...], kind_of: Callable[[Endpoint], object]) -> Group:
    """Return the endpoints of these kinds, remembered in the pool."""
    part = pool.parts.get(kinds)
    if part is None:
        part = tuple(endpoint for endpoint in pool.endpoints if kind_of(endpoint) in kinds)
        pool.parts[kinds] = part
    return part


# === Drawing ===


def _draw(group: Group, choices: int, scene: Scene, *, checked: bool) -> Sequence[Endpoint]:
    """Draw up to so many different endpoints that may serve; none only if there is none."""
    count = len(group)
    if count <= choices:
        free = [one for one in group if scene.may_serve(one)] if checked else group
        return _started(free, scene)
    random, table = scene.rng.random, scene.signals
    drawn: list[Endpoint] = []
    starting: Endpoint | None = None
    for _ in range(DRAWS * choices):
        one = group[int(random() * count)]
        if one in drawn or (checked and not scene.may_serve(one)):
            continue
        if table[one.id].starts and random() >= scene.share_of(one):
            starting = one
            continue
        drawn.append(one)
        if len(drawn) == choices:
            break
    if drawn:
        return drawn
    if starting is not None:
        return [starting]
    free = tuple([endpoint for endpoint in group if scene.may_serve(endpoint)])
    return _draw(free, choices, scene, checked=False)


def _started(free: Sequence[Endpoint], scene: Scene) -> Sequence[Endpoint]:
    """Leave out those that start slowly, as often as their shares say; never all of them."""
    table = scene.signals
    for endpoint in free:
        if table[endpoint.id].starts:
            return [one for one in free if scene.rng.random() < scene.share_of(one)] or free
    return free
