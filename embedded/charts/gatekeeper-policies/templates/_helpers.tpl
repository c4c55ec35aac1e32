{{- define "gatekeeper-policies.labels" -}}
app.kubernetes.io/name: gatekeeper-policies
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- /* Everything that makes pods, and pods. */ -}}
{{- define "gatekeeper-policies.workloads" -}}
- apiGroups: [""]
  kinds: [Pod]
- apiGroups: [apps]
  kinds: [DaemonSet, Deployment, StatefulSet]
- apiGroups: [batch]
  kinds: [CronJob, Job]
{{- end -}}
