{{- define "scan.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "scan.labels" -}}
{{ include "scan.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- /* Labels of one part: scan or server. A dict: root, part. */ -}}
{{- define "scan.partSelector" -}}
{{ include "scan.selector" .root }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}
{{- define "scan.partLabels" -}}
{{ include "scan.labels" .root }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}
{{- /* Not empty: nodes ask the server of this cluster. */ -}}
{{- define "scan.server" -}}
{{- if and .Values.server (or .Values.database.image .Values.database.repository) }}http://{{ .Chart.Name }}.{{ .Release.Namespace }}.svc:4954{{ end -}}
{{- end -}}
{{- /* Trivy reads a file of less than 100 MiB (its pkg/fanal/walker) into memory at once: 256 MiB were seen to be too little. */ -}}
{{- define "scan.sizes" -}}
small:
  requests: {cpu: 20m, memory: 64Mi}
  limits: {cpu: 200m, memory: 512Mi}
  server: {requests: {cpu: 10m, memory: 64Mi}, limits: {cpu: 500m, memory: 384Mi}}
standard:
  requests: {cpu: 50m, memory: 128Mi}
  limits: {cpu: 500m, memory: 768Mi}
  server: {requests: {cpu: 50m, memory: 128Mi}, limits: {cpu: "1", memory: 1Gi}}
large:
  requests: {cpu: 100m, memory: 256Mi}
  limits: {cpu: "1", memory: 2Gi}
  server: {requests: {cpu: 100m, memory: 256Mi}, limits: {cpu: "2", memory: 2Gi}}
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
{{- define "scan.serverResources" -}}
{{- $size := get (get (include "scan.sizes" . | fromYaml) .Values.size) "server" -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.serverResources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
{{- /* A CronJob's name has at most 52 characters, and no dots since its pods' host names have none. */ -}}
{{- define "scan.name" -}}
{{- if or (gt (len .) 47) (contains "." .) }}scan-{{ replace "." "-" . | trunc 38 }}-{{ sha256sum . | trunc 8 }}{{ else }}scan-{{ . }}{{ end -}}
{{- end -}}
{{- define "scan.names" -}}
- to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
      podSelector: {matchLabels: {k8s-app: kube-dns}}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end -}}
{{- define "scan.registry" -}}
# the database's registry, whose addresses nobody knows
- to:
    - ipBlock: {cidr: 0.0.0.0/0}
    - ipBlock: {cidr: "::/0"}
  ports:
    - {protocol: TCP, port: 443}
{{ include "scan.names" . }}
{{- end -}}
