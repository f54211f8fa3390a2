{{- define "switchboard.labels" -}}
app.kubernetes.io/name: switchboard
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "switchboard.selector" -}}
app.kubernetes.io/name: switchboard
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "switchboard.metadata" -}}
name: switchboard-{{ .name | default .component }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "switchboard.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "switchboard.image" -}}
{{ .image.repository }}{{ with .image.digest }}@{{ . }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* A pod's labels and annotations: those of the selector win. */}}
{{- define "switchboard.podMetadata" -}}
labels: {{- merge (include "switchboard.selector" . | fromYaml) .pod.podLabels | toYaml | nindent 2 }}
{{- with merge (.annotations | default dict) .pod.podAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What all pods have: who they are, how little they may do, where they run. */}}
{{- define "switchboard.pod" -}}
serviceAccountName: switchboard-{{ .component }}
automountServiceAccountToken: {{ .token | default false }}
# Kubernetes would tell of every Service in variables, some of which are named like settings.
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.podSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .pod.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.topologySpreadConstraints }}
topologySpreadConstraints:
{{- range . }}
{{- $ours := dict }}
{{- if not .labelSelector }}
{{- /* Old pods do not count while new ones take their places. */}}
{{- $ours = dict "labelSelector" (dict "matchLabels" (include "switchboard.selector" $ | fromYaml)) "matchLabelKeys" (list "pod-template-hash") }}
{{- end }}
{{ merge $ours . | list | toYaml }}
{{- end }}
{{- end }}
{{- end }}

{{- define "switchboard.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{- include "switchboard.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .pod.podDisruptionBudget.maxUnavailable }}
  # A pod that is not ready serves nobody: it must not keep a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "switchboard.selector" . | nindent 6 }}
{{- end }}

{{/* The Secret of the bundled Redis. */}}
{{- define "switchboard.redisSecret" -}}
{{ .Values.redis.bundled.existingSecret | default "switchboard-redis" }}
{{- end }}

{{- define "switchboard.redisEnv" -}}
{{- $redis := .root.Values.redis }}
{{- $given := add (ternary 1 0 $redis.bundled.enabled) (ternary 1 0 (ne $redis.url "")) (ternary 1 0 (ne $redis.existingSecret.name "")) }}
{{- if eq $given 0 }}
{{- fail "set redis.url, redis.existingSecret.name or redis.bundled.enabled=true: Switchboard needs a Redis or Valkey" }}
{{- else if gt $given 1 }}
{{- fail "set only one of redis.url, redis.existingSecret.name and redis.bundled.enabled" }}
{{- end -}}
{{- if not $redis.url -}}
# A file is read anew when its Secret changes: a new password needs no restart.
- {name: SWITCHBOARD_REDIS_URL_FILE, value: /etc/switchboard-redis/url}
{{- else }}
{{- if and (regexMatch "[?&]ssl_" $redis.url) (not (hasPrefix "rediss" $redis.url)) }}
{{- fail "redis.url: one with ssl_… starts with rediss" }}
{{- else if ne (contains "ssl_certfile=" $redis.url) (contains "ssl_keyfile=" $redis.url) }}
{{- fail "redis.url: ssl_certfile and ssl_keyfile belong together" }}
{{- end -}}
- name: SWITCHBOARD_REDIS_URL
  value: {{ $redis.url | quote }}
{{- end }}
{{- end }}

{{/* The file with the URL of the Redis, and files that the URL names. */}}
{{- define "switchboard.redisMounts" -}}
{{- if not .root.Values.redis.url }}
- {name: redis-url, mountPath: /etc/switchboard-redis, readOnly: true}
{{- end }}
{{- if .root.Values.redis.tls.caConfigMap }}
- {name: redis-ca, mountPath: /etc/redis-ca, readOnly: true}
{{- end }}
{{- if .root.Values.redis.tls.clientSecret }}
- {name: redis-client, mountPath: /etc/redis-client, readOnly: true}
{{- end }}
{{- end }}

{{- define "switchboard.redisVolumes" -}}
{{- $redis := .root.Values.redis }}
{{- if not $redis.url }}
{{- $secret := $redis.existingSecret.name }}
{{- $key := get $redis.existingSecret (print .component "Key") | default $redis.existingSecret.key }}
{{- if $redis.bundled.enabled }}
{{- $secret = include "switchboard.redisSecret" .root }}
{{- $key = print .component "-url" }}
{{- end }}
- name: redis-url
  secret:
    secretName: {{ quote $secret }}
    defaultMode: 0440
    items: [{key: {{ quote $key }}, path: url}]
{{- end }}
{{- with $redis.tls.caConfigMap }}
- name: redis-ca
  configMap: {name: {{ quote . }}}
{{- end }}
{{- with $redis.tls.clientSecret }}
- name: redis-client
  secret: {secretName: {{ quote . }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{/* The ports of the Redis, as a list in JSON. */}}
{{- define "switchboard.redisPorts" -}}
{{- $given := .Values.networkPolicy.redis.ports }}
{{- $url := .Values.redis.url }}
{{- if $given }}
{{- toJson $given }}
{{- else if not $url }}
{{- fail "networkPolicy.redis.ports: give the ports of the Redis: its URL is in a Secret" }}
{{- else if contains "+sentinel:" $url }}
{{- fail "networkPolicy.redis.ports: give the ports of the Sentinels and those of the Redis that they watch" }}
{{- else }}
{{- $ports := list }}
{{- $hosts := regexFind "//[^/?#]*" $url | trimPrefix "//" | regexFind "[^@]*$" }}
{{- range splitList "," $hosts }}
{{- $ports = append $ports (regexFind ":[0-9]+$" . | trimPrefix ":" | default "6379" | int) }}
{{- end }}
{{- uniq $ports | toJson }}
{{- end }}
{{- end }}

{{/* The users of the bundled Redis, for two passwords; docs/operations/redis.md has the same rights. */}}
{{- define "switchboard.redisUsers" -}}
{{- /* Probes need no password, and nobody without one can do more. */}}
{{- $probe := "user default on nopass resetchannels resetkeys -@all +ping" }}
{{- $writer := printf "user operator on >%s resetchannels -@all" .operator }}
{{- $writer = printf "%s ~sb:{gw/*}:policy:* ~sb:{gw/*}:endpoints:*" $writer }}
{{- $writer = printf "%s ~sb:{gw/*}:pods ~sb:{gw/*}:seen %%R~sb:{gw/*}:acks ~sb:{gw/*}:words" $writer }}
{{- $writes := "+hgetall +hmget +hlen +hset +hdel +set +mget +del +unlink +rename +persist +pexpire +zadd +zrem +zrange +zrangebyscore +xadd +xread +xrevrange +time +info +multi +exec +evalsha +script|load" }}
{{- if .root.Values.sidecar.enabled }}
{{- /* For each namespace with sidecars it makes a user that sees one scope. */}}
{{- $writer = print $writer " ~sb:{ns/*}:*" }}
{{- $writes = print $writes " +acl|setuser +acl|deluser +acl|users" }}
{{- end }}
{{- $scope := printf "sb:{gw/%s}" .root.Values.gateway.name }}
{{- $reader := printf "user gateway on >%s resetchannels -@all %%R~%s:*" .gateway $scope }}
{{- range list "pods" "seen" "acks" "words" "decisions" }}
{{- $reader = printf "%s %%RW~%s:%s" $reader $scope . }}
{{- end }}
{{- $commands := "+hgetall +mget +xread +time +hget +hset +hdel +zadd +zrem +zrange +xadd +xtrim +multi +exec +evalsha +script|load" }}
{{- printf "%s\n%s %s\n%s %s\n" $probe $writer $writes $reader $commands }}
{{- end }}

{{/* What the operator may do in the namespaces that it watches. */}}
{{- define "switchboard.watchRules" -}}
- apiGroups: [switchboard.dev]
  resources: [modelbackends, routingpolicies]
  verbs: [list, watch]
- apiGroups: [switchboard.dev]
  resources: [modelbackends/status, routingpolicies/status]
  verbs: [patch, update]
- apiGroups: [""]
  resources: [services, secrets]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
# The last good spec of an object whose newest edit is bad.
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [list, create, delete]
# What became of an edit, for those who describe the object.
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
