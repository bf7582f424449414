{{/*
The gate's init container, from a list of two: the chart's scope, and the values named in the README.
*/}}
{{- define "precheck.container" -}}
{{- $scope := index . 0 -}}
{{- $gate := index . 1 | default dict -}}
{{- if not $gate.targets -}}
{{- fail "precheck: targets is empty; list what to wait for, or leave the gate out" -}}
{{- end -}}
- name: {{ $gate.name | default "precheck" }}
  image: {{ $gate.image | default "registry.example/service-precheck:0.1.0" }}
  imagePullPolicy: IfNotPresent
  args:
    {{- range $gate.args }}
    - {{ . | quote }}
    {{- end }}
    {{- range $gate.targets }}
    - {{ tpl . $scope | quote }}
    {{- end }}
  {{- with $gate.env }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $gate.volumeMounts }}
  volumeMounts:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  resources:
    {{- $gate.resources | default (include "precheck.resources" . | fromYaml) | toYaml | nindent 4 }}
  securityContext:
    {{- $gate.securityContext | default (include "precheck.securityContext" . | fromYaml) | toYaml | nindent 4 }}
{{- end }}

{{- define "precheck.resources" -}}
requests: {cpu: 10m, memory: 16Mi}
limits: {memory: 16Mi}
{{- end }}

{{- define "precheck.securityContext" -}}
runAsNonRoot: true
runAsUser: 65532
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}
