{{- define "local-path.selector" -}}
app.kubernetes.io/name: local-path
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "local-path.labels" -}}
{{ include "local-path.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
