{{- define "network-policies.selector" -}}
app.kubernetes.io/name: network-policies
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "network-policies.labels" -}}
{{ include "network-policies.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
