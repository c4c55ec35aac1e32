{{- /*
What Prometheus scrapes in the cluster that it runs in. The charts prometheus and prometheus-agent both have this file; a
test keeps the copies equal. It takes a dict: "exporterTLS" is whether node-exporter and kube-state-metrics ask for a
client certificate, which is then the one below /etc/catamaran/tls.

No label is dropped that tells two series of a target apart. Each job keeps a list of names, and gives up (up = 0, which alerts) beyond sample_limit: what a cluster sends does not grow
with what someone adds to a target.
*/ -}}
{{- define "catamaran.jobs" -}}
{{- $token := "/var/run/secrets/kubernetes.io/serviceaccount" -}}
# the API server, each replica by itself
- job_name: kube-apiserver
  scheme: https
  authorization: {credentials_file: {{ $token }}/token}
  tls_config: {ca_file: {{ $token }}/ca.crt, server_name: kubernetes.default.svc}
  kubernetes_sd_configs:
    - role: endpointslice
      namespaces: {names: [default]}
  sample_limit: 50000
  body_size_limit: 64MB
  relabel_configs:
    - {source_labels: [__meta_kubernetes_service_name, __meta_kubernetes_endpointslice_port_name], regex: kubernetes;https, action: keep}
  metric_relabel_configs:
    - source_labels: [__name__]
      regex: apiserver_(audit_(error|event)_total|storage_size_bytes|current_inflight_requests|admission_webhook_rejection_count|validating_admission_policy_check_total)|etcd_request_errors_total|process_(cpu_seconds_total|resident_memory_bytes|start_time_seconds)
      target_label: __tmp_keep
      replacement: "yes"
    # of the requests those that were refused or failed
    - {source_labels: [__name__, code], regex: 'apiserver_request_total;(401|403|429|5..)', target_label: __tmp_keep, replacement: "yes"}
    # client certificates that end within a week (604800 s)
    - {source_labels: [__name__, le], regex: 'apiserver_client_certificate_expiration_seconds_bucket;604800(\.0)?', target_label: __tmp_keep, replacement: "yes"}
    - {source_labels: [__tmp_keep], regex: "yes", action: keep}
    - {regex: __tmp_keep, action: labeldrop}
# kubelets answer with certificates of the cluster's authority that hold their node's address
- job_name: kubelet
  scheme: https
  authorization: {credentials_file: {{ $token }}/token}
  tls_config: {ca_file: {{ $token }}/ca.crt}
  kubernetes_sd_configs: [{role: node}]
  sample_limit: 20000
  relabel_configs:
    - {source_labels: [__meta_kubernetes_node_name], target_label: node}
  metric_relabel_configs:
    - source_labels: [__name__]
      regex: kubelet_(running_pods|volume_stats_(available|capacity)_bytes|volume_stats_inodes(_free)?|runtime_operations_errors_total|certificate_manager_(client|server)_ttl_seconds|certificate_manager_client_expiration_renew_errors|server_expiration_renew_errors)|process_(cpu_seconds_total|resident_memory_bytes|start_time_seconds)
      action: keep
# containers, and the interfaces of nodes
- job_name: cadvisor
  scheme: https
  metrics_path: /metrics/cadvisor
  authorization: {credentials_file: {{ $token }}/token}
  tls_config: {ca_file: {{ $token }}/ca.crt}
  kubernetes_sd_configs: [{role: node}]
  sample_limit: 50000
  relabel_configs:
    - {source_labels: [__meta_kubernetes_node_name], target_label: node}
  metric_relabel_configs:
    - source_labels: [__name__]
      regex: container_(cpu_usage_seconds_total|memory_working_set_bytes|oom_events_total|network_(receive|transmit)_bytes_total)
      action: keep
    # no sums over pods and slices
    - {source_labels: [__name__, container], regex: 'container_(cpu|memory|oom).*;', action: drop}
    - {source_labels: [__name__, id], regex: 'container_network.*;/.+', action: drop}
    - {source_labels: [__name__, interface], regex: 'container_network.*;(lo|veth|cni|cali|cilium|lxc|flannel|docker|kube-|nodelocal).*', action: drop}
    - {regex: id|name|image|cpu, action: labeldrop}
- job_name: node-exporter
  {{- include "catamaran.exporter" (dict "tls" .exporterTLS "name" "node-exporter" "port" "9100") | nindent 2 }}
  sample_limit: 5000
  metric_relabel_configs:
    - {source_labels: [__name__, mode], regex: 'node_cpu_(guest.*;.*|seconds_total;(nice|irq|softirq))', action: drop}
    - source_labels: [__name__]
      regex: node_(cpu_seconds_total|load(1|5|15)|memory_(MemTotal|MemAvailable|Cached|SwapTotal|SwapFree)_bytes|filesystem_(avail|size)_bytes|filesystem_(files|files_free|readonly|device_error)|disk_(read|written)_bytes_total|disk_io_time_seconds_total|filefd_(allocated|maximum)|timex_(offset_seconds|sync_status|maxerror_seconds)|time_seconds|boot_time_seconds|uname_info|vmstat_oom_kill)
      action: keep
- job_name: kube-state-metrics
  {{- include "catamaran.exporter" (dict "tls" .exporterTLS "name" "kube-state-metrics" "port" "8080") | nindent 2 }}
  # its labels are those of the objects that it speaks of
  honor_labels: true
  sample_limit: 100000
  body_size_limit: 128MB
  metric_relabel_configs:
    - source_labels: [__name__]
      regex: kube_(node_(info|status_condition|status_allocatable|status_capacity|spec_unschedulable|spec_taint)|namespace_status_phase|pod_(info|status_phase|container_status_(restarts_total|ready|waiting_reason|last_terminated_reason)|container_resource_(requests|limits)|init_container_status_waiting_reason)|deployment_(spec_replicas|status_replicas_available)|statefulset_(replicas|status_replicas_ready)|daemonset_status_(desired_number_scheduled|number_ready|number_misscheduled)|job_(failed|status_failed|complete)|cronjob_(status_last_successful_time|status_last_schedule_time|spec_suspend|info)|persistentvolumeclaim_(info|status_phase)|persistentvolume_(status_phase|capacity_bytes)|poddisruptionbudget_status_(current_healthy|desired_healthy)|networkpolicy_created)
      action: keep
    # only what holds: conditions, phases and reasons have a series of 0 for each value that is not
    - {source_labels: [__name__, status], regex: 'kube_node_status_condition;(false|unknown)', action: drop}
    - {regex: uid|container_id|image_id|pod_ip|host_ip|pod_cidr|system_uuid|provider_id|internal_ip|created_by_kind|created_by_name, action: labeldrop}
- job_name: coredns
  kubernetes_sd_configs:
    - role: pod
      namespaces: {names: [kube-system]}
      selectors: [{role: pod, label: k8s-app=kube-dns}]
  sample_limit: 5000
  relabel_configs:
    - {source_labels: [__meta_kubernetes_pod_container_port_name], regex: metrics, action: keep}
    - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
  metric_relabel_configs:
    - source_labels: [__name__]
      regex: coredns_(panics_total|dns_responses_total|forward_healthcheck_broken_total)
      action: keep
# the platform's other parts, wherever a container has a port of the name "metrics" (plain HTTP), and Falco's web server
- job_name: platform
  kubernetes_sd_configs:
    - role: pod
      namespaces: {names: [cert-manager, dex, falco, fluentd, gateway-api, gatekeeper-system, velero]}
  sample_limit: 5000
  relabel_configs:
    - {source_labels: [__meta_kubernetes_namespace, __meta_kubernetes_pod_container_port_name], regex: .+;metrics|falco;web, action: keep}
    - {source_labels: [__meta_kubernetes_pod_phase], regex: Succeeded|Failed, action: drop}
    - {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
    - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
    - {source_labels: [__meta_kubernetes_pod_node_name], target_label: node}
  metric_relabel_configs:
    - source_labels: [__name__]
      regex: gatekeeper_(violations|constraints|constraint_templates|audit_last_run_time|validation_request_count_total|watch_manager_watched_gvk)|falcosecurity_.+|falco_.+|fluentd_.+|velero_backup_.+|traefik_(config_last_reload_success|config_reloads_total|entrypoint_requests_total|router_requests_total|open_connections|tls_certs_not_after)|certmanager_certificate_(expiration_timestamp_seconds|ready_status)|process_(cpu_seconds_total|resident_memory_bytes|start_time_seconds)
      target_label: __tmp_keep
      replacement: "yes"
    # Dex's name for its requests is everybody's
    - {source_labels: [namespace, __name__], regex: dex;http_requests_total, target_label: __tmp_keep, replacement: "yes"}
    - {source_labels: [__tmp_keep], regex: "yes", action: keep}
    - {regex: __tmp_keep, action: labeldrop}
{{- end -}}
{{- define "catamaran.exporter" -}}
{{- if .tls }}
scheme: https
tls_config: {ca_file: /etc/catamaran/tls/ca.crt, cert_file: /etc/catamaran/tls/tls.crt, key_file: /etc/catamaran/tls/tls.key, server_name: {{ .name }}.{{ .name }}.svc}
{{- end }}
kubernetes_sd_configs:
  - role: pod
    namespaces: {names: [{{ .name }}]}
relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_container_port_name], regex: metrics, action: keep}
  - {source_labels: [__meta_kubernetes_pod_node_name], target_label: node}
{{- end -}}
{{- /* Egress to what the job "platform" scrapes. */ -}}
{{- define "catamaran.platform" -}}
{{- range $name, $port := dict "cert-manager" 9402 "dex" 5558 "falco" 8765 "fluentd" 24231 "gateway-api" 8082 "gatekeeper-system" 8888 "velero" 8085 }}
- to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ $name }}}}
  ports:
    - {port: {{ $port }}, protocol: TCP}
{{- end }}
{{- end -}}
