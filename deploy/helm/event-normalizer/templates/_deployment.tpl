{{- /* A dict: root, component, command, env (YAML), port, replicas (-1: not said), graceSeconds, resources; alone: two pods would fence each other. */}}
{{- define "event-normalizer.deployment" -}}
{{- $of := list .root .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "event-normalizer.metadata" $of | nindent 2 }}
spec:
  {{- if ge (int .replicas) 0 }}
  replicas: {{ .replicas }}
  {{- end }}
  strategy:
    {{- if .alone }}
    type: Recreate
    {{- else }}
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
    {{- end }}
  selector:
    matchLabels:
      {{- include "event-normalizer.selector" $of | nindent 6 }}
  template:
    metadata:
      {{- include "event-normalizer.podMetadata" $of | nindent 6 }}
    spec:
      {{- include "event-normalizer.pod" $of | nindent 6 }}
      # Pods of one component on several nodes, where there are several.
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "event-normalizer.selector" $of | nindent 14 }}
      terminationGracePeriodSeconds: {{ .graceSeconds }}
      containers:
        - {{- include "event-normalizer.container" $of | nindent 10 }}
          command: {{ .command | toJson }}
          {{- include "event-normalizer.env" (list .root .env) | nindent 10 }}
          ports:
            - name: http
              containerPort: {{ .port }}
          # Alive: its loop runs. Ready: it works. An outage restarts nothing.
          livenessProbe:
            httpGet: {path: /livez, port: http}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 3
          readinessProbe:
            httpGet: {path: /readyz, port: http}
            periodSeconds: 5
            timeoutSeconds: 8
            failureThreshold: 2
          resources:
            {{- toYaml .resources | nindent 12 }}
{{- end }}

{{- /* A list: the root, the component. Also pods that are not ready: their metrics say why. */}}
{{- define "event-normalizer.scrapedService" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "event-normalizer.metadata" . | nindent 2 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    {{- include "event-normalizer.selector" . | nindent 4 }}
  ports:
    - name: http
      port: 9464
      targetPort: http
{{- end }}
