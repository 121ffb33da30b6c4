#!/bin/bash
# Checks that need the node: Deployment + Service + DNS, readiness, logs, exec,
# restarts, deletion, shared memory volume, access to the API from a pod.
set -euo pipefail
. "$(dirname "$0")/../env.sh"
t0=$(date +%s.%N)
ok() { printf 'ok   %5.1fs %s\n' "$(echo "$(date +%s.%N) - $t0" | bc)" "$*"; }
has() { # PATTERN COMMAND...: the command's output, error or not, has the pattern
  local p=$1 out; shift; out=$("$@" 2>&1) || true; grep -q -- "$p" <<<"$out" || bad "no \"$p\" in: $out"; }
bad() { echo "FAIL $*"; exit 1; }
k() { kubectl -n t2 "$@"; }
kubectl create ns t2 >/dev/null
k apply -f - >/dev/null <<'Y'
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: echo
        image: registry.local/echo:dev
        env: [{name: READY_AFTER, value: 2s}]
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
        resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
        securityContext: {runAsNonRoot: true, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false,
          capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  restartPolicy: Never
  containers:
  - name: client
    image: registry.local/echo:dev
    args: [get, "http://echo.t2.svc.cluster.local/fqdn", "http://echo/short", "http://echo.t2/ns"]
---
apiVersion: v1
kind: Pod
metadata: {name: shared}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: m, emptyDir: {medium: Memory, sizeLimit: 16Mi}}]
  containers:
  - {name: w, image: registry.local/echo:dev, args: [write, /m/f, hello], volumeMounts: [{name: m, mountPath: /m}]}
  - {name: r, image: registry.local/echo:dev, args: [read, /m/f], volumeMounts: [{name: m, mountPath: /m}]}
Y
k wait --for=condition=Available deploy/echo --timeout=60s >/dev/null; ok "Deployment available (image imported, probe passed)"
k wait --for=jsonpath='{.status.phase}'=Succeeded pod/client --timeout=60s >/dev/null; ok "pod -> Service by DNS name: FQDN, short, ns"
k logs client | sed 's/^/       /'
k wait --for=condition=Ready pod/shared --timeout=60s >/dev/null
for i in $(seq 50); do k logs shared -c r | grep -q 'read "hello"' && break; sleep .1; done
has 'read "hello"' k logs shared -c r; ok "two containers share emptyDir medium: Memory"
has hello curl -sf --max-time 5 "http://$(k get svc echo -o 'jsonpath={.spec.clusterIP}')/from-host"; ok "host -> ClusterIP"
p=$(k get pod -l app=echo -o 'jsonpath={.items[0].metadata.name}')
has hello kubectl get --raw "/api/v1/namespaces/t2/pods/$p:8080/proxy/x"; ok "API server proxy to a pod"
has '200 OK' k exec "$p" -- /app get http://127.0.0.1:8080/exec; ok "kubectl exec"
kubectl -n t2 port-forward "pod/$p" 18080:8080 >/dev/null 2>&1 & pf=$!   # not through k: a function would be a subshell, and kill would miss kubectl
for i in $(seq 50); do curl -sf http://127.0.0.1:18080/pf >/dev/null && { ok "kubectl port-forward"; break; }; sleep .1; done; kill $pf
curl -s "http://$(k get pod "$p" -o 'jsonpath={.status.podIP}'):8080/exit" || true
for i in $(seq 100); do [ "$(k get pod "$p" -o 'jsonpath={.status.containerStatuses[0].restartCount}')" = 1 ] && break; sleep .1; done
[ "$(k get pod "$p" -o 'jsonpath={.status.containerStatuses[0].restartCount}')" = 1 ] && ok "crashed container restarted"
k logs -p "$p" | grep -q /exit || true
k wait --for=condition=Ready "pod/$p" --timeout=30s >/dev/null; ok "ready again after restart"
s=$(date +%s.%N); k delete pod "$p" >/dev/null; ok "pod deletion took $(echo "$(date +%s.%N) - $s" | bc)s"
k wait --for=condition=Available deploy/echo --timeout=30s >/dev/null; k rollout status deploy/echo >/dev/null; ok "replacement available"
# endpoints follow readiness
k scale deploy/echo --replicas=0 >/dev/null
for i in $(seq 100); do [ -z "$(k get endpointslice -l kubernetes.io/service-name=echo -o 'jsonpath={.items[*].endpoints[*].addresses}')" ] && break; sleep .1; done
curl -s --max-time 2 "http://$(k get svc echo -o 'jsonpath={.spec.clusterIP}')/" >/dev/null && bad "Service without pods answered" || ok "Service without pods refuses"
s=$(date +%s.%N); kubectl delete ns t2 --timeout=60s >/dev/null; ok "namespace with pods deleted in $(echo "$(date +%s.%N) - $s" | bc)s"
