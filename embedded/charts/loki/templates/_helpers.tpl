{{- define "loki.selector" -}}
app.kubernetes.io/name: loki
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "loki.labels" -}}
{{ include "loki.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- /* What the size says, where the value does not say it. */ -}}
{{- define "loki.resources" -}}
{{- $size := get (include "loki.sizes" . | fromYaml) .Values.size -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.resources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
{{- /* Idle, measured: 117 MB. */ -}}
{{- define "loki.sizes" -}}
small:
  requests: {cpu: 50m, memory: 150Mi}
  limits: {cpu: "1", memory: 1Gi}
  retentionDays: 30
  storageGiB: 10
  ingestionRateMiB: 16
  replayMemory: 700MB
standard:
  requests: {cpu: 500m, memory: 1Gi}
  limits: {cpu: "2", memory: 4Gi}
  retentionDays: 90
  storageGiB: 50
  ingestionRateMiB: 32
  replayMemory: 1500MB
large:
  requests: {cpu: "2", memory: 4Gi}
  limits: {cpu: "4", memory: 12Gi}
  retentionDays: 180
  storageGiB: 200
  ingestionRateMiB: 128
  replayMemory: 4GB
{{- end -}}
{{- define "loki.bySize" -}}
{{- $size := get (include "loki.sizes" .root | fromYaml) .root.Values.size -}}
{{- get .root.Values .key | default (get $size .key) | int -}}
{{- end -}}
