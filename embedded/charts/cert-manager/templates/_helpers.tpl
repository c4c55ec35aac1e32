{{- define "cert-manager.selector" -}}
app.kubernetes.io/name: cert-manager
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "cert-manager.labels" -}}
{{ include "cert-manager.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- define "cert-manager.sizes" -}}
small:
  replicas: 1
  controller: {requests: {cpu: 10m, memory: 64Mi}, limits: {cpu: 500m, memory: 256Mi}}
  webhook: {requests: {cpu: 5m, memory: 32Mi}, limits: {cpu: 200m, memory: 96Mi}}
  cainjector: {requests: {cpu: 5m, memory: 48Mi}, limits: {cpu: 200m, memory: 128Mi}}
standard:
  replicas: 2
  controller: {requests: {cpu: 50m, memory: 128Mi}, limits: {cpu: "1", memory: 512Mi}}
  webhook: {requests: {cpu: 20m, memory: 64Mi}, limits: {cpu: 500m, memory: 128Mi}}
  cainjector: {requests: {cpu: 10m, memory: 64Mi}, limits: {cpu: 500m, memory: 256Mi}}
large:
  replicas: 3
  controller: {requests: {cpu: 100m, memory: 512Mi}, limits: {cpu: "2", memory: 2Gi}}
  webhook: {requests: {cpu: 50m, memory: 96Mi}, limits: {cpu: "1", memory: 256Mi}}
  cainjector: {requests: {cpu: 50m, memory: 256Mi}, limits: {cpu: "1", memory: 1Gi}}
{{- end -}}
{{- define "cert-manager.size" -}}
{{- get (include "cert-manager.sizes" . | fromYaml) .Values.size | toYaml -}}
{{- end -}}
{{- /* (dict "root" $ "part" NAME): what the size says, where the value does not say it. */ -}}
{{- define "cert-manager.resources" -}}
{{- $part := .part -}}
{{- $size := get (include "cert-manager.size" .root | fromYaml) $part -}}
{{- $given := get .root.Values.resources $part -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $given $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
{{- /* (dict "root" $ "part" NAME): the name of a part's objects. */ -}}
{{- define "cert-manager.name" -}}
{{ if eq .part "controller" }}cert-manager{{ else }}cert-manager-{{ .part }}{{ end }}
{{- end -}}
{{- /* (dict "root" $ "part" NAME "replicas" N "image" IMAGE "args" LIST "ports" MAP "probe" PATH-AND-PORT "config" BOOL) */ -}}
{{- define "cert-manager.deployment" -}}
{{- $ := .root -}}
{{- $name := include "cert-manager.name" . -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $.Release.Namespace }}
  labels:
    {{- include "cert-manager.labels" $ | nindent 4 }}
    app.kubernetes.io/component: {{ .part }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  replicas: {{ .replicas }}
  selector:
    matchLabels:
      {{- include "cert-manager.selector" $ | nindent 6 }}
      app.kubernetes.io/component: {{ .part }}
  template:
    metadata:
      labels:
        {{- include "cert-manager.labels" $ | nindent 8 }}
        app.kubernetes.io/component: {{ .part }}
      {{- if .config }}
      annotations:
        catamaran.dev/config: {{ include (print $.Template.BasePath "/config.yaml") $ | sha256sum }}
      {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      automountServiceAccountToken: true
      enableServiceLinks: false
      priorityClassName: system-cluster-critical
      nodeSelector: {kubernetes.io/os: linux}
      tolerations:
        - {key: node-role.kubernetes.io/control-plane, operator: Exists, effect: NoSchedule}
      {{- if gt (int .replicas) 1 }}
      affinity:
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              podAffinityTerm:
                topologyKey: kubernetes.io/hostname
                labelSelector:
                  matchLabels:
                    {{- include "cert-manager.selector" $ | nindent 20 }}
                    app.kubernetes.io/component: {{ .part }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 1000
        runAsGroup: 1000
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: {{ .part }}
          image: {{ .image }}
          imagePullPolicy: IfNotPresent
          args:
            {{- range .args }}
            - {{ . }}
            {{- end }}
          env:
            - name: POD_NAMESPACE
              valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
            - name: GOMEMLIMIT
              valueFrom: {resourceFieldRef: {containerName: {{ .part }}, resource: limits.memory}}
          {{- with .ports }}
          ports:
            {{- range $port, $number := . }}
            - {name: {{ $port }}, containerPort: {{ $number }}, protocol: TCP}
            {{- end }}
          {{- end }}
          {{- with .probes }}
          startupProbe:
            httpGet: {path: {{ .live }}, port: health}
            periodSeconds: 2
            failureThreshold: 60
          {{- with .ready }}
          readinessProbe:
            httpGet: {path: {{ . }}, port: health}
            periodSeconds: 5
          {{- end }}
          livenessProbe:
            httpGet: {path: {{ .live }}, port: health}
            periodSeconds: 20
            timeoutSeconds: 10
            failureThreshold: 6
          {{- end }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          resources: {{- include "cert-manager.resources" (dict "root" $ "part" .part) | nindent 12 }}
          {{- if .config }}
          volumeMounts:
            - {name: config, mountPath: /etc/catamaran/cert-manager, readOnly: true}
      volumes:
        - name: config
          configMap: {name: {{ $name }}, defaultMode: 0444}
          {{- end }}
{{- if gt (int .replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ $.Release.Namespace }}
  labels: {{- include "cert-manager.labels" $ | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "cert-manager.selector" $ | nindent 6 }}
      app.kubernetes.io/component: {{ .part }}
{{- end }}
{{- end -}}
