{{- define "fluentd.selector" -}}
app.kubernetes.io/name: fluentd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "fluentd.labels" -}}
{{ include "fluentd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- /* What the size says, where the value does not say it. */ -}}
{{- define "fluentd.resources" -}}
{{- $size := get (include "fluentd.sizes" . | fromYaml) .Values.size -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.resources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
{{- /* Measured for the stand-in only: each of Fluentd's two processes takes 60 to 120 MB before it has read a line. */ -}}
{{- define "fluentd.sizes" -}}
small:
  requests: {cpu: 50m, memory: 100Mi}
  limits: {cpu: 500m, memory: 512Mi}
  bufferMiB: 512
standard:
  requests: {cpu: 100m, memory: 200Mi}
  limits: {cpu: "1", memory: 768Mi}
  bufferMiB: 4096
large:
  requests: {cpu: 200m, memory: 300Mi}
  limits: {cpu: "2", memory: 1Gi}
  bufferMiB: 16384
{{- end -}}
{{- define "fluentd.bufferMiB" -}}
{{- int .Values.bufferMiB | default (int (get (get (include "fluentd.sizes" . | fromYaml) .Values.size) "bufferMiB")) -}}
{{- end -}}
