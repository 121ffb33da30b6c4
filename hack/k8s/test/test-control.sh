#!/bin/bash
# Checks that need the control plane only: CRD with validation, webhook, RBAC, ServiceAccount tokens.
set -euo pipefail
. "$(dirname "$0")/../env.sh"
ok() { echo "ok   $*"; }; has() { # PATTERN COMMAND...: the command's output, error or not, has the pattern
  local p=$1 out; shift; out=$("$@" 2>&1) || true; grep -q -- "$p" <<<"$out" || bad "no \"$p\" in: $out"; }
bad() { echo "FAIL $*"; exit 1; }
kubectl apply -f - >/dev/null <<'Y'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer, maximum: 10}},
      x-kubernetes-validations: [{rule: "self.size != 7", message: "seven is taken"}]}, status: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}
Y
kubectl wait --for=condition=Established crd/widgets.example.com --timeout=30s >/dev/null
w() { kubectl apply -f - <<Y
apiVersion: example.com/v1
kind: Widget
metadata: {name: w$1, namespace: default}
spec: {size: $1}
Y
}
w 3 >/dev/null && ok "CRD: create"
has 'should be less than or equal to 10' w 11; ok "CRD: schema"
has 'seven is taken' w 7; ok "CRD: CEL rule"
kubectl create ns t1 >/dev/null
kubectl create sa bob -n t1 >/dev/null
for i in $(seq 20); do kubectl get cm -n t1 kube-root-ca.crt >/dev/null 2>&1 && break; sleep .2; done
ok "root CA published to a new namespace"
T=$(kubectl create token bob -n t1)
K="kubectl --kubeconfig=/dev/null --server=https://$NODE_IP:6443 --certificate-authority=$RUN/pki/ca.crt --token=$T"
has 'system:serviceaccount:t1:bob.*cannot list' $K get pods -n t1; ok "RBAC: denied"
kubectl create role r -n t1 --verb=list --resource=pods >/dev/null
kubectl create rolebinding r -n t1 --role=r --serviceaccount=t1:bob >/dev/null
for i in $(seq 20); do $K get pods -n t1 >/dev/null 2>&1 && break; sleep .2; done
has 'No resources' $K get pods -n t1; ok "RBAC: allowed with a ServiceAccount token"
# a webhook in a host process, on the bridge's address
"$ROOT/bin/hook" -cert "$RUN/pki/kubelet-serving.crt" -key "$RUN/pki/kubelet-serving.key" -addr "$NODE_IP:9443" & H=$!
trap 'kill $H' EXIT
kubectl apply -f - >/dev/null <<Y
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: deny}
webhooks:
- name: deny.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  rules: [{apiGroups: [example.com], apiVersions: [v1], operations: [CREATE], resources: [widgets]}]
  clientConfig: {url: "https://$NODE_IP:9443/", caBundle: $(base64 -w0 "$RUN/pki/ca.crt")}
Y
sleep 1
has 'denied the request: no fives' w 5; ok "validating webhook: denied" || bad "webhook"
w 6 >/dev/null && ok "validating webhook: allowed"
kubectl delete validatingwebhookconfiguration deny >/dev/null
kubectl create deployment d -n t1 --image=x --replicas=2 >/dev/null
for i in $(seq 50); do [ "$(kubectl get pods -n t1 -o name | wc -l)" = 2 ] && break; sleep .2; done
[ "$(kubectl get pods -n t1 -o name | wc -l)" = 2 ] && ok "controllers: Deployment -> ReplicaSet -> 2 Pods"
kubectl delete ns t1 --timeout=60s >/dev/null && ok "namespace deletion"
kubectl delete crd widgets.example.com >/dev/null && ok "CRD deletion"
