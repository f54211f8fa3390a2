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

{{- define "switchboard.image" -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "switchboard.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "switchboard.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "switchboard.redisEnv" -}}
- name: SWITCHBOARD_REDIS_URL
{{- with .Values.redis.existingSecret.name }}
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: {{ $.Values.redis.existingSecret.key }}}
{{- else }}
  value: {{ required "set redis.url or redis.existingSecret.name: Switchboard needs a Redis or Valkey" .Values.redis.url | quote }}
{{- end }}
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
{{- end }}
