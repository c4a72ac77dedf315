{{- define "busmap.labels" -}}
app.kubernetes.io/name: busmap
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "busmap.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ printf "%s@%s" .repository .digest }}
{{- else -}}
{{ printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) }}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* The settings file. What pods must agree on with this chart is not a site's to set. */ -}}
{{- define "busmap.settings" -}}
{{- $own := dict
  "state_folder" "/var/lib/busmap"
  "run_folder" "/run/busmap"
  "web" (dict "host" "0.0.0.0" "port" 8080)
  "gateway" (dict "port" 11112) -}}
{{- range $key := list "state_folder" "run_folder" "database_url" "web" -}}
{{- if hasKey $.Values.settings $key -}}
{{- fail (printf "settings.%s is set by the chart: leave it out" $key) -}}
{{- end -}}
{{- end -}}
{{- if hasKey ($.Values.settings.gateway | default dict) "port" -}}
{{- fail "settings.gateway.port is set by the chart: scanners reach gateway.service.port" -}}
{{- end -}}
{{- $destinations := ($.Values.settings.delivery | default dict).destinations -}}
{{- if and $destinations $.Values.networkPolicy.enabled (not $.Values.networkPolicy.destinations) -}}
{{- fail "networkPolicy.destinations is empty: no result would reach settings.delivery.destinations" -}}
{{- end -}}
{{- toYaml (mergeOverwrite (deepCopy $.Values.settings) $own) -}}
{{- end }}

{{- /* A pod of one component: .root, .component, .values, .ready (seconds until it must be ready). */ -}}
{{- define "busmap.pod" -}}
metadata:
  labels:
    {{- include "busmap.labels" . | nindent 4 }}
  annotations:
    checksum/settings: {{ include "busmap.settings" .root | sha256sum }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .values.terminationSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: {{ .root.Values.podSecurity.userId }}
    runAsGroup: {{ .root.Values.podSecurity.groupId }}
    fsGroup: {{ .root.Values.podSecurity.groupId }}
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- $selector := deepCopy .values.nodeSelector }}
  {{- $tolerations := .values.tolerations }}
  {{- if .gpu }}
  {{- $selector = mergeOverwrite $selector .gpu.nodeSelector }}
  {{- $tolerations = concat $tolerations .gpu.tolerations }}
  {{- end }}
  {{- with $selector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # Two of a kind on one node would go with it.
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "busmap.labels" . | nindent 10 }}
  containers:
    - name: {{ .component }}
      image: {{ include "busmap.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: [busmap, {{ .component }}]
      env:
        - name: BUSMAP_CONFIG
          value: /etc/busmap/busmap.yaml
        - name: BUSMAP_DATABASE_URL
          valueFrom:
            secretKeyRef:
              name: {{ .root.Values.database.existingSecret }}
              key: {{ .root.Values.database.secretKey }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      ports:
        {{- if eq .component "gateway" }}
        - name: dicom
          containerPort: 11112
        {{- end }}
        - name: web
          containerPort: 8080
      # Models are loaded and checked before a worker is ready; a gateway listens within seconds.
      startupProbe:
        httpGet: { path: /livez, port: web }
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: { path: /livez, port: web }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /readyz, port: web }
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 3
      resources:
        {{- $limits := deepCopy .values.resources.limits }}
        {{- if .gpu }}
        {{- $limits = set $limits .gpu.resource .gpu.count }}
        {{- end }}
        requests:
          {{- toYaml .values.resources.requests | nindent 10 }}
        limits:
          {{- toYaml $limits | nindent 10 }}
      volumeMounts:
        - { name: spool, mountPath: /var/lib/busmap }
        - { name: own, mountPath: /run/busmap }
        - { name: own, mountPath: /tmp, subPath: tmp }
        - { name: settings, mountPath: /etc/busmap, readOnly: true }
  volumes:
    - name: spool
      persistentVolumeClaim:
        claimName: {{ .root.Values.spool.existingClaim | default (printf "%s-spool" .root.Release.Name) }}
    # What is a pod's own goes with it: lock, runtime file, the executor's memory. Our rows hold the truth.
    - name: own
      emptyDir:
        sizeLimit: 1Gi
    - name: settings
      configMap:
        name: {{ .root.Release.Name }}-settings
{{- end }}
