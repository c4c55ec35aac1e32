{{- define "velero.selector" -}}
app.kubernetes.io/name: velero
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "velero.labels" -}}
{{ include "velero.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- define "velero.sizes" -}}
small: {requests: {cpu: 10m, memory: 96Mi}, limits: {cpu: 500m, memory: 384Mi}}
standard: {requests: {cpu: 100m, memory: 192Mi}, limits: {cpu: "1", memory: 768Mi}}
large: {requests: {cpu: 200m, memory: 512Mi}, limits: {cpu: "2", memory: 2Gi}}
{{- end -}}
{{- define "velero.size" -}}
{{- get (include "velero.sizes" . | fromYaml) .Values.size | toYaml -}}
{{- end -}}
{{- /* What the size says, where the value does not say it. */ -}}
{{- define "velero.resources" -}}
{{- $size := include "velero.size" . | fromYaml -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.resources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
