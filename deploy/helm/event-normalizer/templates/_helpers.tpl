{{- /* Each helper takes a list: the root, and a component such as "normalizer". */}}

{{- define "event-normalizer.name" -}}
{{ (index . 0).Release.Name | trunc 40 | trimSuffix "-" }}-{{ index . 1 }}
{{- end }}

{{- define "event-normalizer.selector" -}}
app.kubernetes.io/name: event-normalizer
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "event-normalizer.metadata" -}}
name: {{ include "event-normalizer.name" . }}
labels:
  {{- include "event-normalizer.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
  helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end }}

{{- define "event-normalizer.podMetadata" -}}
labels:
  {{- include "event-normalizer.selector" . | nindent 2 }}
  {{- with (index . 0).Values.pod.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with (index . 0).Values.pod.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* What every pod has. No service links: they would set variables such as PROJECTOR_PORT. */}}
{{- define "event-normalizer.pod" -}}
{{- $root := index . 0 -}}
{{- $pod := $root.Values.pod -}}
serviceAccountName: {{ $pod.serviceAccountName }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- toYaml $pod.securityContext | nindent 2 }}
{{- with $pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $pod.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {}
  {{- with $pod.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* What every container has. */}}
{{- define "event-normalizer.container" -}}
{{- $root := index . 0 -}}
{{- $image := $root.Values.image -}}
name: {{ index . 1 }}
image: {{ $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end }}
imagePullPolicy: {{ $image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- with $root.Values.pod.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* A list: the root, a variable, a key of the Secret, and whether it may be missing. */}}
{{- define "event-normalizer.secretVariable" -}}
- name: {{ index . 1 }}
  valueFrom:
    secretKeyRef:
      name: {{ (index . 0).Values.existingSecret }}
      key: {{ index . 2 }}
      {{- if index . 3 }}
      optional: true
      {{- end }}
{{- end }}

{{- /* A container that starts again in its pod takes its partitions back at once. */}}
{{- define "event-normalizer.instance" }}
- name: NORMALIZER_INSTANCE
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}

{{- /* A map of variables and their texts. */}}
{{- define "event-normalizer.variables" -}}
{{- range $name, $text := . }}
- name: {{ $name }}
  value: {{ $text | quote }}
{{- end }}
{{- end }}

{{- /* A list: the root, and a container's own variables as YAML. Below them, those of every container. */}}
{{- define "event-normalizer.env" -}}
env:
  {{- index . 1 | trim | nindent 2 }}
  {{- with (index . 0).Values.pod.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "event-normalizer.kafkaSecrets" -}}
{{- $root := . -}}
{{- range list "KAFKA_SASL_USERNAME" "KAFKA_SASL_PASSWORD" "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET" }}
{{ include "event-normalizer.secretVariable" (list $root . . true) }}
{{- end }}
{{- end }}

{{- /* The batch in flight is written first. If no server responds, the process then needs another 41 s to release its partitions. */}}
{{- define "event-normalizer.graceSeconds" -}}
{{ add 45 (.NORMALIZER_STOP_TIMEOUT_S | default "20" | int) }}
{{- end }}
