{{- define "alertmanager.selector" -}}
app.kubernetes.io/name: alertmanager
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "alertmanager.labels" -}}
{{ include "alertmanager.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- define "alertmanager.sizes" -}}
small: {replicas: 1, requests: {cpu: 10m, memory: 32Mi}, limits: {cpu: 200m, memory: 96Mi}}
standard: {replicas: 2, requests: {cpu: 50m, memory: 64Mi}, limits: {cpu: 500m, memory: 256Mi}}
large: {replicas: 3, requests: {cpu: 100m, memory: 128Mi}, limits: {cpu: "1", memory: 512Mi}}
{{- end -}}
{{- define "alertmanager.size" -}}
{{- get (include "alertmanager.sizes" . | fromYaml) .Values.size | toYaml -}}
{{- end -}}
{{- define "alertmanager.resources" -}}
{{- $size := include "alertmanager.size" . | fromYaml -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.resources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
