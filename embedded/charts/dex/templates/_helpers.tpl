{{- define "dex.selector" -}}
app.kubernetes.io/name: dex
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "dex.labels" -}}
{{ include "dex.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- define "dex.sizes" -}}
small: {requests: {cpu: 5m, memory: 32Mi}, limits: {cpu: 200m, memory: 128Mi}}
standard: {requests: {cpu: 20m, memory: 64Mi}, limits: {cpu: 500m, memory: 256Mi}}
large: {requests: {cpu: 100m, memory: 128Mi}, limits: {cpu: "1", memory: 512Mi}}
{{- end -}}
{{- /* What the size says, where the value does not say it. */ -}}
{{- define "dex.resources" -}}
{{- $size := get (include "dex.sizes" . | fromYaml) .Values.size -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.resources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
