{{- define "gateway-api.selector" -}}
app.kubernetes.io/name: gateway-api
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "gateway-api.labels" -}}
{{ include "gateway-api.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- define "gateway-api.sizes" -}}
small: {replicas: 1, requests: {cpu: 10m, memory: 64Mi}, limits: {cpu: 500m, memory: 256Mi}}
standard: {replicas: 2, requests: {cpu: 100m, memory: 128Mi}, limits: {cpu: "2", memory: 512Mi}}
large: {replicas: 3, requests: {cpu: 500m, memory: 256Mi}, limits: {cpu: "4", memory: 1Gi}}
{{- end -}}
{{- define "gateway-api.size" -}}
{{- get (include "gateway-api.sizes" . | fromYaml) .Values.size | toYaml -}}
{{- end -}}
{{- /* What the size says, where the value does not say it. */ -}}
{{- define "gateway-api.resources" -}}
{{- $size := include "gateway-api.size" . | fromYaml -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.resources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
