{{- define "versitygw.selector" -}}
app.kubernetes.io/name: versitygw
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "versitygw.labels" -}}
{{ include "versitygw.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- /* What the size says, where the value does not say it. */ -}}
{{- define "versitygw.resources" -}}
{{- $size := get (include "versitygw.sizes" . | fromYaml) .Values.size -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.resources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
{{- /* Idle, measured: 31 MB. */ -}}
{{- define "versitygw.sizes" -}}
small:
  requests: {cpu: 50m, memory: 64Mi}
  limits: {cpu: "1", memory: 384Mi}
  storageGiB: 20
  retentionDays: 30
standard:
  requests: {cpu: 250m, memory: 256Mi}
  limits: {cpu: "2", memory: 1Gi}
  storageGiB: 200
  retentionDays: 365
large:
  requests: {cpu: "1", memory: 512Mi}
  limits: {cpu: "4", memory: 2Gi}
  storageGiB: 1000
  retentionDays: 365
{{- end -}}
{{- define "versitygw.bySize" -}}
{{- $size := get (include "versitygw.sizes" .root | fromYaml) .root.Values.size -}}
{{- get .root.Values .key | default (get $size .key) | int -}}
{{- end -}}
{{- /* A bucket policy: who may do what with a bucket and its objects. Whoever is not named may nothing. */ -}}
{{- define "versitygw.policy" -}}
{{- $statements := list }}
{{- $bucket := .bucket }}
{{- range .grants }}
{{- $statements = append $statements (dict "Effect" "Allow" "Principal" (dict "AWS" (list .user)) "Action" .onBucket "Resource" (list (printf "arn:aws:s3:::%s" $bucket))) }}
{{- $statements = append $statements (dict "Effect" "Allow" "Principal" (dict "AWS" (list .user)) "Action" .onObjects "Resource" (list (printf "arn:aws:s3:::%s/*" $bucket))) }}
{{- end }}
{{- dict "Version" "2012-10-17" "Statement" $statements | toPrettyJson }}
{{- end -}}
