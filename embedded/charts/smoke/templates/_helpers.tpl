{{- /* both parts take (dict "root" $ "part" NAME) */ -}}
{{- define "smoke.selector" -}}
app.kubernetes.io/name: {{ .part }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}
{{- define "smoke.labels" -}}
{{ include "smoke.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- define "smoke.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
# it waits a minute for its end when it is asked to stop
terminationGracePeriodSeconds: 1
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{operator: Exists}]
securityContext:
  runAsNonRoot: true
  runAsUser: 65534
  runAsGroup: 65534
  fsGroup: 65534
  seccompProfile: {type: RuntimeDefault}
{{- end -}}
{{- define "smoke.container" -}}
image: {{ .root.Values.image }}
imagePullPolicy: IfNotPresent
command: [/agnhost, serve-hostname, --port=8080]
ports:
  - {name: http, containerPort: 8080, protocol: TCP}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources: {{- toYaml .root.Values.resources | nindent 2 }}
{{- end -}}
