{{- /* These take a dict: root, and part (receive, query, rule, store, compact). */ -}}
{{- define "thanos.selector" -}}
app.kubernetes.io/name: thanos
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}
{{- define "thanos.labels" -}}
app.kubernetes.io/name: thanos
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- with .part }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- /* Replicas of Receive: each sample is stored as often as there are replicas, up to three, so that one may be lost. */ -}}
{{- define "thanos.sizes" -}}
small:
  volume: 10Gi
  receive: {replicas: 1, requests: {cpu: 50m, memory: 128Mi}, limits: {cpu: "1", memory: 512Mi}}
  query: {replicas: 1, requests: {cpu: 20m, memory: 64Mi}, limits: {cpu: "1", memory: 256Mi}}
  rule: {replicas: 1, requests: {cpu: 20m, memory: 64Mi}, limits: {cpu: 500m, memory: 192Mi}}
  store: {replicas: 1, requests: {cpu: 20m, memory: 64Mi}, limits: {cpu: 500m, memory: 384Mi}}
  compact: {replicas: 1, requests: {cpu: 10m, memory: 64Mi}, limits: {cpu: "1", memory: 512Mi}}
standard:
  volume: 50Gi
  receive: {replicas: 3, requests: {cpu: 200m, memory: 512Mi}, limits: {cpu: "2", memory: 2Gi}}
  query: {replicas: 2, requests: {cpu: 100m, memory: 256Mi}, limits: {cpu: "2", memory: 1Gi}}
  rule: {replicas: 2, requests: {cpu: 100m, memory: 128Mi}, limits: {cpu: "1", memory: 512Mi}}
  store: {replicas: 1, requests: {cpu: 100m, memory: 256Mi}, limits: {cpu: "1", memory: 1Gi}}
  compact: {replicas: 1, requests: {cpu: 50m, memory: 256Mi}, limits: {cpu: "2", memory: 2Gi}}
large:
  volume: 200Gi
  receive: {replicas: 3, requests: {cpu: "1", memory: 2Gi}, limits: {cpu: "4", memory: 8Gi}}
  query: {replicas: 3, requests: {cpu: 250m, memory: 512Mi}, limits: {cpu: "4", memory: 4Gi}}
  rule: {replicas: 2, requests: {cpu: 250m, memory: 256Mi}, limits: {cpu: "2", memory: 1Gi}}
  store: {replicas: 2, requests: {cpu: 250m, memory: 1Gi}, limits: {cpu: "2", memory: 4Gi}}
  compact: {replicas: 1, requests: {cpu: 100m, memory: 512Mi}, limits: {cpu: "4", memory: 8Gi}}
{{- end -}}
{{- define "thanos.size" -}}
{{- get (include "thanos.sizes" . | fromYaml) .root.Values.size | toYaml -}}
{{- end -}}
{{- define "thanos.replicas" -}}
{{- int (get (include "thanos.size" . | fromYaml) .part).replicas -}}
{{- end -}}
{{- define "thanos.resources" -}}
{{- $size := get (include "thanos.size" . | fromYaml) .part -}}
{{- $given := get .root.Values.resources .part -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $given $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "thanos.grpc" -}}
- --grpc-address=:10901
- --grpc-server-tls-cert=/etc/catamaran/tls/tls.crt
- --grpc-server-tls-key=/etc/catamaran/tls/tls.key
- --grpc-server-tls-client-ca=/etc/catamaran/tls/ca.crt
{{- end -}}

{{- /* A whole workload. Beyond root and part: kind, args (text), data (a folder for data), rules, s3, claim. */ -}}
{{- define "thanos.workload" -}}
{{- $bucket := and .s3 .root.Values.s3.endpoint -}}
apiVersion: apps/v1
kind: {{ .kind }}
metadata:
  name: thanos-{{ .part }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "thanos.labels" . | nindent 4 }}
spec:
  replicas: {{ include "thanos.replicas" . }}
  selector:
    matchLabels: {{- include "thanos.selector" . | nindent 6 }}
  {{- if eq .kind "StatefulSet" }}
  serviceName: thanos-{{ .part }}-peers
  # a replica that is down already does not keep its fellows from coming up
  podManagementPolicy: Parallel
  {{- else }}
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  {{- end }}
  template:
    metadata:
      labels: {{- include "thanos.labels" . | nindent 8 }}
      annotations:
        catamaran.dev/config: {{ include "thanos.config" .root | sha256sum }}
        {{- if .rules }}
        catamaran.dev/rules: {{ include "thanos.rules" .root | sha256sum }}
        {{- end }}
    spec:
      serviceAccountName: thanos
      automountServiceAccountToken: false
      enableServiceLinks: false
      priorityClassName: system-cluster-critical
      nodeSelector: {kubernetes.io/os: linux}
      tolerations:
        - {key: node-role.kubernetes.io/control-plane, operator: Exists, effect: NoSchedule}
      affinity:
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              podAffinityTerm:
                topologyKey: kubernetes.io/hostname
                labelSelector:
                  matchLabels: {{- include "thanos.selector" . | nindent 20 }}
      terminationGracePeriodSeconds: {{ if .claim }}300{{ else }}60{{ end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 1001
        runAsGroup: 1001
        fsGroup: 1001
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: thanos
          image: {{ .root.Values.image }}
          imagePullPolicy: IfNotPresent
          args:
            - {{ .part }}
            - --enable-auto-gomemlimit
            - --http-address=:10902
            - --http.config=/etc/catamaran/thanos/web-{{ .part }}.yaml
            {{- .args | nindent 12 }}
            {{- if $bucket }}
            - --objstore.config-file=/etc/catamaran/thanos/bucket.yaml
            {{- end }}
          env:
            - name: POD_NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            {{- if $bucket }}
            - name: AWS_ACCESS_KEY_ID
              valueFrom: {secretKeyRef: {name: thanos-s3, key: access}}
            - name: AWS_SECRET_ACCESS_KEY
              valueFrom: {secretKeyRef: {name: thanos-s3, key: secret}}
            {{- end }}
          ports:
            - {name: https, containerPort: 10902, protocol: TCP}
            {{- if ne .part "compact" }}
            - {name: grpc, containerPort: 10901, protocol: TCP}
            {{- end }}
            {{- if eq .part "receive" }}
            - {name: write, containerPort: 19291, protocol: TCP}
            {{- end }}
          # every port asks for a client certificate, which kubelet does not have
          startupProbe:
            tcpSocket: {port: {{ if eq .part "receive" }}write{{ else }}https{{ end }}}
            periodSeconds: 2
            failureThreshold: 300
          readinessProbe:
            tcpSocket: {port: {{ if eq .part "receive" }}write{{ else }}https{{ end }}}
            periodSeconds: 10
          livenessProbe:
            tcpSocket: {port: https}
            periodSeconds: 30
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          resources: {{- include "thanos.resources" . | nindent 12 }}
          volumeMounts:
            - {name: config, mountPath: /etc/catamaran/thanos, readOnly: true}
            - {name: tls, mountPath: /etc/catamaran/tls, readOnly: true}
            {{- if and $bucket .root.Values.s3.siteAuthority }}
            - {name: s3, mountPath: /etc/catamaran/s3, readOnly: true}
            {{- end }}
            {{- if .rules }}
            - {name: rules, mountPath: /etc/catamaran/rules, readOnly: true}
            {{- end }}
            {{- if .data }}
            - {name: data, mountPath: /var/lib/thanos}
            {{- end }}
            - {name: tmp, mountPath: /tmp}
      volumes:
        - name: config
          configMap: {name: thanos, defaultMode: 0444}
        - name: tls
          secret: {secretName: thanos-tls, defaultMode: 0440}
        {{- if and $bucket .root.Values.s3.siteAuthority }}
        # the S3's authority, without the keys
        - name: s3
          secret: {secretName: thanos-s3, defaultMode: 0440, items: [{key: ca.crt, path: ca.crt}]}
        {{- end }}
        {{- if .rules }}
        - name: rules
          configMap: {name: thanos-rules, defaultMode: 0444}
        {{- end }}
        {{- if and .data (not .claim) }}
        - name: data
          emptyDir: {sizeLimit: {{ .data }}}
        {{- end }}
        - name: tmp
          emptyDir: {sizeLimit: 64Mi}
  {{- if .claim }}
  # what was delivered outlives the release
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Retain}
  volumeClaimTemplates:
    - metadata: {name: data}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .root.Values.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources: {requests: {storage: {{ .data }}}}
  {{- end }}
{{- if gt (int (include "thanos.replicas" .)) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: thanos-{{ .part }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "thanos.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "thanos.selector" . | nindent 6 }}
{{- end }}
{{- end -}}
