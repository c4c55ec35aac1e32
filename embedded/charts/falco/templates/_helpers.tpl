{{- define "falco.selector" -}}
app.kubernetes.io/name: falco
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "falco.labels" -}}
{{ include "falco.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- /* What the size says, where the value does not say it. */ -}}
{{- define "falco.resources" -}}
{{- $size := get (include "falco.sizes" . | fromYaml) .Values.size -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.resources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
{{- define "falco.sizes" -}}
small:
  requests: {cpu: 50m, memory: 128Mi}
  limits: {cpu: 500m, memory: 512Mi}
standard:
  requests: {cpu: 100m, memory: 256Mi}
  limits: {cpu: "1", memory: 1Gi}
large:
  requests: {cpu: 200m, memory: 512Mi}
  limits: {cpu: "2", memory: 2Gi}
{{- end -}}
