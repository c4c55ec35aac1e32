{{- define "node-exporter.selector" -}}
app.kubernetes.io/name: node-exporter
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "node-exporter.labels" -}}
{{ include "node-exporter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- /* Per node, so it grows with the machines and not with the site. */ -}}
{{- define "node-exporter.sizes" -}}
small:
  requests: {cpu: 10m, memory: 20Mi}
  limits: {cpu: 100m, memory: 64Mi}
standard:
  requests: {cpu: 20m, memory: 32Mi}
  limits: {cpu: 250m, memory: 128Mi}
large:
  requests: {cpu: 50m, memory: 48Mi}
  limits: {cpu: 500m, memory: 256Mi}
{{- end -}}
{{- define "node-exporter.resources" -}}
{{- $size := get (include "node-exporter.sizes" . | fromYaml) .Values.size -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.resources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
