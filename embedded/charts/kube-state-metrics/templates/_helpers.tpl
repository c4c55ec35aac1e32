{{- define "kube-state-metrics.selector" -}}
app.kubernetes.io/name: kube-state-metrics
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "kube-state-metrics.labels" -}}
{{ include "kube-state-metrics.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- define "kube-state-metrics.sizes" -}}
small:
  requests: {cpu: 10m, memory: 40Mi}
  limits: {cpu: 200m, memory: 128Mi}
standard:
  requests: {cpu: 50m, memory: 128Mi}
  limits: {cpu: 500m, memory: 512Mi}
large:
  requests: {cpu: 100m, memory: 512Mi}
  limits: {cpu: "1", memory: 2Gi}
{{- end -}}
{{- define "kube-state-metrics.resources" -}}
{{- $size := get (include "kube-state-metrics.sizes" . | fromYaml) .Values.size -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.resources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
{{- /* What may be listed, by API group; the flag and the role both follow this. */ -}}
{{- define "kube-state-metrics.kinds" -}}
"": [namespaces, nodes, persistentvolumeclaims, persistentvolumes, pods]
apps: [daemonsets, deployments, statefulsets]
batch: [cronjobs, jobs]
policy: [poddisruptionbudgets]
networking.k8s.io: [networkpolicies]
{{- end -}}
