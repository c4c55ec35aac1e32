{{- define "cinder-csi.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "cinder-csi.labels" -}}
{{ include "cinder-csi.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- /* A dict: root, part. */ -}}
{{- define "cinder-csi.partSelector" -}}
{{ include "cinder-csi.selector" .root }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}
{{- define "cinder-csi.partLabels" -}}
{{ include "cinder-csi.labels" .root }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}
{{- define "cinder-csi.locked" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
{{- /* One that speaks to the driver through its socket. A dict: root, name, image, args. */ -}}
{{- define "cinder-csi.sidecar" -}}
- name: {{ .name }}
  image: {{ .image }}
  imagePullPolicy: IfNotPresent
  args:
    - --csi-address=/csi/csi.sock
    {{- range .args }}
    - {{ . }}
    {{- end }}
  securityContext: {{- include "cinder-csi.locked" .root | nindent 4 }}
  resources: {{- toYaml .root.Values.resources.sidecars | nindent 4 }}
  volumeMounts:
    - {name: socket, mountPath: /csi}
{{- end -}}
