{{- define "ingest-gateway.selector" -}}
app.kubernetes.io/name: ingest-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "ingest-gateway.labels" -}}
{{ include "ingest-gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- /* What the size says, where the value does not say it. */ -}}
{{- define "ingest-gateway.resources" -}}
{{- $size := get (include "ingest-gateway.sizes" . | fromYaml) .Values.size -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.resources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
{{- define "ingest-gateway.sizes" -}}
small:
  requests: {cpu: 50m, memory: 64Mi}
  limits: {cpu: "1", memory: 512Mi}
  retentionDays: 30
  connections: 1000
  # of one tenant; memory is readers x (message + 3 x decompressed) + buffer + 3 x object, at the worst
  messageMebibytes: 10
  decompressedMebibytes: 16
  readers: 2
  objectMebibytes: 4
  bufferMebibytes: 20
standard:
  requests: {cpu: 500m, memory: 256Mi}
  limits: {cpu: "2", memory: 1Gi}
  retentionDays: 365
  connections: 4000
  # of one tenant; memory is readers x (message + 3 x decompressed) + buffer + 3 x object, at the worst
  messageMebibytes: 16
  decompressedMebibytes: 32
  readers: 4
  objectMebibytes: 16
  bufferMebibytes: 48
large:
  requests: {cpu: "2", memory: 512Mi}
  limits: {cpu: "4", memory: 4Gi}
  retentionDays: 365
  connections: 16000
  # of one tenant; memory is readers x (message + 3 x decompressed) + buffer + 3 x object, at the worst
  messageMebibytes: 32
  decompressedMebibytes: 64
  readers: 8
  objectMebibytes: 16
  bufferMebibytes: 128
{{- end -}}
