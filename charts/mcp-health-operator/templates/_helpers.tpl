{{/* Name of the chart, or what the user calls it. */}}
{{- define "mcp-health-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of the objects. 52 characters at most leave room for the suffixes within the 63 of a label. */}}
{{- define "mcp-health-operator.fullname" -}}
{{- $name := include "mcp-health-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "mcp-health-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mcp-health-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mcp-health-operator.labels" -}}
{{ include "mcp-health-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: mcp-health
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "mcp-health-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "mcp-health-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* The ConfigMap that suspends every action. */}}
{{- define "mcp-health-operator.switchName" -}}
{{ include "mcp-health-operator.fullname" . }}-switch
{{- end }}

{{/* "true" where an action is on that changes Deployments, else empty. */}}
{{- define "mcp-health-operator.changesTemplates" -}}
{{- if or .Values.actions.rollback .Values.actions.rolloutRestart }}true{{ end }}
{{- end }}

{{/* Settings that would be accepted and not honoured end here, with what to write instead. */}}
{{- define "mcp-health-operator.validate" -}}
{{- if ne .Values.actions.rollback .Values.actions.rolloutRestart }}
{{- fail "actions.rollback and actions.rolloutRestart are one right to Kubernetes (patch on Deployments): switch both on or both off here, and leave the one you do not want out of spec.actions.allow of the McpServerHealth objects" }}
{{- end }}
{{- if and .Values.actions.rollbackConfig (not (include "mcp-health-operator.changesTemplates" .)) }}
{{- fail "actions.rollbackConfig restarts the pods that read the ConfigMap: set actions.rollback and actions.rolloutRestart to true as well, or actions.rollbackConfig to false" }}
{{- end }}
{{- if and (gt (int .Values.replicaCount) 1) (not .Values.leaderElection.enabled) }}
{{- fail "replicaCount is more than 1, and without leader election every replica would act: set leaderElection.enabled to true, or replicaCount to 1" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.service.enabled) }}
{{- fail "metrics.serviceMonitor finds pods through the Service: set metrics.service.enabled to true, or use metrics.podMonitor" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
{{- fail "metrics.serviceMonitor and metrics.podMonitor would scrape the same pods twice: enable one of them" }}
{{- end }}
{{- end }}

{{/* What the operator does in the namespaces it watches. */}}
{{- define "mcp-health-operator.watchRules" -}}
# The policies, and the story told in their status. Nothing else of them is ever written.
- apiGroups: [mcphealth.dev]
  resources: [mcpserverhealths]
  verbs: [list, watch]
- apiGroups: [mcphealth.dev]
  resources: [mcpserverhealths/status]
  verbs: [update]
# The targets.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch{{ if include "mcp-health-operator.changesTemplates" . }}, patch{{ end }}]
# What is seen: revisions, pods, why they crashed, who answers for a Service, who else scales.
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get, list, watch]
{{- if include "mcp-health-operator.changesTemplates" . }}
# Before a rollback: whether what the template names still exists. By name, metadata only.
- apiGroups: [""]
  resources: [configmaps, serviceaccounts, persistentvolumeclaims]
  verbs: [get]
{{- end }}
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
# Why a pod does not come up: a probe that fails, a volume that cannot be mounted.
- apiGroups: [""]
  resources: [events]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [services]
  verbs: [list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, watch]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, watch]
# Before a memory limit is raised: who else sets limits, and what the namespace allows.
- apiGroups: [autoscaling.k8s.io]
  resources: [verticalpodautoscalers]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [resourcequotas, limitranges]
  verbs: [list, watch]
# What pods use of CPU and memory, where the cluster has a metrics-server.
- apiGroups: [metrics.k8s.io]
  resources: [pods]
  verbs: [list]
# How many ready pods may be missing at once.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch]
{{- if .Values.actions.recyclePod }}
# RecyclePod: an eviction, which the API server refuses where a budget does.
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
{{- end }}
{{- if .Values.actions.runJob }}
# Jobs from the CronJobs that policies name, and what came of them.
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, list, watch]
{{- end }}
{{- if .Values.actions.rollbackConfig }}
# RollbackConfig: which content ConfigMaps have, the copies of what was healthy (made once, deleted when they are
# too many), and the content that comes back.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
# Who else reads a ConfigMap, whether pods of it run or not.
- apiGroups: [apps]
  resources: [statefulsets, daemonsets]
  verbs: [list, watch]
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [list, watch]
{{- end }}
{{- if .Values.signals.secrets }}
# The Secrets that policies name: tokens for MCP, credentials for databases and other dependencies.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
{{- end }}
{{- if .Values.evidence.keep }}
# Evidence: the namespace's Events, and the ConfigMaps that it is kept in; the oldest of those are deleted.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [list]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create, list, delete]
{{- end }}
# What is told.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* Nodes are in no namespace: not read where the operator works in some namespaces only. */}}
{{- define "mcp-health-operator.watchesNodes" -}}
{{- if and .Values.signals.nodes (not .Values.watchNamespaces) }}true{{ end }}
{{- end }}

{{/* The annotation by which a namespace is suspended. */}}
{{- define "mcp-health-operator.namespaceRules" -}}
# A namespace's own switch: its annotation mcphealth.dev/suspend. It is read again right before each action.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get, list, watch]
{{- if include "mcp-health-operator.watchesNodes" . }}
# Why pods lost their readiness: the conditions and taints of nodes.
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, list, watch]
{{- end }}
{{- if .Values.signals.kubeletStats }}
# How full volumes are, by the kubelets' statistics. Nodes are in no namespace, and the right reaches every node.
- apiGroups: [""]
  resources: [nodes/proxy]
  verbs: [get]
{{- end }}
{{- end }}
