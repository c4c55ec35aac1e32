{{- define "scan.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "scan.labels" -}}
{{ include "scan.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- define "scan.sizes" -}}
small:
  requests: {cpu: 20m, memory: 64Mi}
  limits: {cpu: 200m, memory: 256Mi}
standard:
  requests: {cpu: 50m, memory: 128Mi}
  limits: {cpu: 500m, memory: 768Mi}
large:
  requests: {cpu: 100m, memory: 256Mi}
  limits: {cpu: "1", memory: 2Gi}
{{- end -}}
{{- /* What the size says, where the value does not say it. */ -}}
{{- define "scan.resources" -}}
{{- $size := get (include "scan.sizes" . | fromYaml) .Values.size -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.resources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
{{- /* A CronJob's name has at most 52 characters, and no dots since its pods' host names have none. */ -}}
{{- define "scan.name" -}}
{{- if or (gt (len .) 47) (contains "." .) }}scan-{{ replace "." "-" . | trunc 38 }}-{{ sha256sum . | trunc 8 }}{{ else }}scan-{{ . }}{{ end -}}
{{- end -}}
