#!/bin/bash
# An InMemoryChannel with a Subscription, and a Sequence of two steps with a
# reply, each fed one CloudEvent; the last image's log must show it.
set -euo pipefail
. "$(dirname "$0")/../env.sh"
t0=$(date +%s.%N)
ok() { printf 'ok   %5.1fs %s\n' "$(echo "$(date +%s.%N) - $t0" | bc)" "$*"; }
bad() { echo "FAIL $*"; exit 1; }
k() { kubectl -n t3 "$@"; }
server() { cat <<Y
apiVersion: apps/v1
kind: Deployment
metadata: {name: $1}
spec:
  selector: {matchLabels: {app: $1}}
  template:
    metadata: {labels: {app: $1}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: echo, image: "registry.local/echo:dev", env: [{name: REPLY, value: "$2"}],
        readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}}]
---
apiVersion: v1
kind: Service
metadata: {name: $1}
spec: {selector: {app: $1}, ports: [{port: 80, targetPort: 8080}]}
---
Y
}
kubectl create ns t3 >/dev/null
{ server step1 one; server step2 two; server sink ""; cat <<'Y'
apiVersion: messaging.knative.dev/v1
kind: InMemoryChannel
metadata: {name: imc}
---
apiVersion: messaging.knative.dev/v1
kind: Subscription
metadata: {name: sub}
spec:
  channel: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel, name: imc}
  subscriber: {ref: {apiVersion: v1, kind: Service, name: sink}}
---
apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {name: seq}
spec:
  channelTemplate: {apiVersion: messaging.knative.dev/v1, kind: InMemoryChannel}
  steps:
  - ref: {apiVersion: v1, kind: Service, name: step1}
  - ref: {apiVersion: v1, kind: Service, name: step2}
  reply: {ref: {apiVersion: v1, kind: Service, name: sink}}
Y
} | k apply -f - >/dev/null
k wait --for=condition=Available deploy --all --timeout=60s >/dev/null; ok "receivers available"
k wait --for=condition=Ready imc/imc subscription/sub sequence/seq --timeout=90s >/dev/null; ok "InMemoryChannel, Subscription, Sequence Ready"
k get imc,subscription,sequence | sed 's/^/       /'
# From the host: the host uses the cluster's DNS by naming it.
send() { # RESOURCE ID
  local u h ip
  u=$(k get "$1" -o 'jsonpath={.status.address.url}'); h=${u#http://}; h=${h%%/*}
  ip=$(dns "$h"); curl -sf --max-time 10 -o /dev/null -w "       $u ($ip): %{http_code}\n" --resolve "$h:80:$ip" "$u" \
    -H 'Ce-Specversion: 1.0' -H 'Ce-Type: t.example' -H 'Ce-Source: /host' -H "Ce-Id: $2" -H 'Content-Type: application/json' -d '{"msg":"hi"}'
}
dns() { # a lookup through the cluster's DNS without dig: ExternalName and ClusterIP names
  python3 - "$1" "$NODE_IP" <<'P'
import socket,struct,sys
n,s=sys.argv[1:]
q=struct.pack('>6H',1,256,1,0,0,0)+b''.join(bytes([len(p)])+p.encode() for p in n.split('.'))+b'\0'+struct.pack('>2H',1,1)
u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); u.settimeout(3); u.sendto(q,(s,53)); print(socket.inet_ntoa(u.recv(512)[-4:]))
P
}
seen() { for _ in $(seq 100); do k logs "deploy/$1" | grep -q "$2" && return; sleep .1; done; k logs "deploy/$1"; bad "$1 did not log $2"; }
send imc/imc ev-channel; seen sink 'id="ev-channel".*body="{\\"msg\\":\\"hi\\"}"'; ok "event through the channel"
send sequence/seq ev-seq; seen sink 'id="ev-seq".*one.*two'; ok "event through the Sequence, both steps in order"
k logs deploy/sink | grep POST | sed 's/^/       /'
kubectl delete ns t3 --timeout=90s >/dev/null; ok "namespace deleted"
