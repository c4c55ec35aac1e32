{{- define "prometheus.selector" -}}
app.kubernetes.io/name: prometheus
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "prometheus.labels" -}}
{{ include "prometheus.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- define "prometheus.sizes" -}}
small:
  requests: {cpu: 50m, memory: 96Mi}
  limits: {cpu: 500m, memory: 320Mi}
  disk: 2Gi
standard:
  requests: {cpu: 200m, memory: 384Mi}
  limits: {cpu: "1", memory: 1Gi}
  disk: 8Gi
large:
  requests: {cpu: 500m, memory: 1Gi}
  limits: {cpu: "2", memory: 4Gi}
  disk: 32Gi
{{- end -}}
{{- define "prometheus.size" -}}
{{- get (include "prometheus.sizes" . | fromYaml) .Values.size | toYaml -}}
{{- end -}}
{{- define "prometheus.resources" -}}
{{- $size := include "prometheus.size" . | fromYaml -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.resources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
