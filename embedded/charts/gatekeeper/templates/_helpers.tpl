{{- define "gatekeeper.selector" -}}
app.kubernetes.io/name: gatekeeper
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
{{- define "gatekeeper.labels" -}}
{{ include "gatekeeper.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: catamaran
{{- end -}}
{{- /* Idle, measured: 75 MB. In small one pod does everything. */ -}}
{{- define "gatekeeper.sizes" -}}
small:
  replicas: 1
  requests: {cpu: 10m, memory: 96Mi}
  limits: {cpu: 500m, memory: 256Mi}
standard:
  replicas: 2
  requests: {cpu: 100m, memory: 192Mi}
  limits: {cpu: "1", memory: 512Mi}
large:
  replicas: 3
  requests: {cpu: 200m, memory: 512Mi}
  limits: {cpu: "2", memory: 2Gi}
{{- end -}}
{{- define "gatekeeper.size" -}}
{{- get (include "gatekeeper.sizes" . | fromYaml) .Values.size | toYaml -}}
{{- end -}}
{{- /* What the size says, where the value does not say it. */ -}}
{{- define "gatekeeper.resources" -}}
{{- $size := include "gatekeeper.size" . | fromYaml -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
  {{- range $what := list "cpu" "memory" }}
  {{ $what }}: {{ get (get $.Values.resources $kind) $what | default (get (get $size $kind) $what) | quote }}
  {{- end }}
{{- end }}
{{- end -}}
{{- /* What rules look at: the role, the webhook and the audit follow this. */ -}}
{{- define "gatekeeper.kinds" -}}
"": [configmaps, namespaces, pods, services]
apps: [daemonsets, deployments, statefulsets]
batch: [cronjobs, jobs]
networking.k8s.io: [networkpolicies]
{{- end -}}
{{- /* (dict "root" $ "part" NAME "operations" LIST "replicas" N "webhook" BOOL) */ -}}
{{- define "gatekeeper.deployment" -}}
{{- $ := .root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .part }}
  namespace: {{ $.Release.Namespace }}
  labels:
    {{- include "gatekeeper.labels" $ | nindent 4 }}
    app.kubernetes.io/component: {{ .part }}
spec:
  replicas: {{ .replicas }}
  {{- if not .webhook }}
  # two audits would report everything twice
  strategy: {type: Recreate}
  {{- end }}
  selector:
    matchLabels:
      {{- include "gatekeeper.selector" $ | nindent 6 }}
      app.kubernetes.io/component: {{ .part }}
  template:
    metadata:
      labels:
        {{- include "gatekeeper.labels" $ | nindent 8 }}
        app.kubernetes.io/component: {{ .part }}
    spec:
      serviceAccountName: gatekeeper
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
                    {{- include "gatekeeper.selector" $ | nindent 20 }}
                    app.kubernetes.io/component: {{ .part }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        fsGroup: 65532
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: gatekeeper
          image: {{ $.Values.image }}
          imagePullPolicy: IfNotPresent
          command: [/manager]
          args:
            {{- range .operations }}
            - --operation={{ . }}
            {{- end }}
            - --logtostderr
            - --log-denies
            - --port=8443
            - --health-addr=:9090
            - --prometheus-port=8888
            - --cert-service-name=gatekeeper
            - --validating-webhook-configuration-name=gatekeeper
            {{- if not .webhook }}
            - --disable-cert-rotation
            {{- end }}
            - --exempt-namespace={{ $.Release.Namespace }}
            {{- range $.Values.exemptNamespaces }}
            - --exempt-namespace={{ . }}
            {{- end }}
            - --enable-external-data=false
            - --enable-generator-resource-expansion=false
            - --default-create-vap-for-templates=true
            - --default-create-vap-binding-for-constraints=true
            # a rule that can not be evaluated must not stop the cluster; ours say Fail where that is meant
            - --default-k8s-native-validation-failure-policy=Ignore
            {{- if has "audit" .operations }}
            - --audit-interval={{ int $.Values.auditSeconds }}
            - --constraint-violations-limit={{ int $.Values.auditViolations }}
            - --audit-match-kind-only=true
            - --audit-chunk-size=500
            - --api-cache-dir=/tmp/audit
            {{- end }}
            # rules can not fetch anything
            - --disable-opa-builtin={http.send}
          env:
            - name: POD_NAMESPACE
              valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
            - name: POD_NAME
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            - name: GOMEMLIMIT
              valueFrom: {resourceFieldRef: {containerName: gatekeeper, resource: limits.memory}}
          ports:
            {{- if .webhook }}
            - {name: webhook, containerPort: 8443, protocol: TCP}
            {{- end }}
            - {name: health, containerPort: 9090, protocol: TCP}
            - {name: metrics, containerPort: 8888, protocol: TCP}
          # up to two minutes until the kubelet shows the first certificate; it is ready when it has read all rules
          startupProbe:
            httpGet: {path: /healthz, port: health}
            periodSeconds: 2
            failureThreshold: 150
          readinessProbe:
            httpGet: {path: /readyz, port: health}
            periodSeconds: 2
          livenessProbe:
            httpGet: {path: /healthz, port: health}
            periodSeconds: 20
            failureThreshold: 3
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          resources: {{- include "gatekeeper.resources" $ | nindent 12 }}
          volumeMounts:
            {{- if .webhook }}
            - {name: cert, mountPath: /certs, readOnly: true}
            {{- end }}
            - {name: audit, mountPath: /tmp/audit}
      volumes:
        {{- if .webhook }}
        - name: cert
          secret: {secretName: gatekeeper-webhook-server-cert, defaultMode: 0440}
        {{- end }}
        # what the audit has read so far
        - name: audit
          emptyDir: {sizeLimit: 256Mi}
{{- end -}}
