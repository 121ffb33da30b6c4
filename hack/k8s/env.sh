# Settings shared by the scripts; every one can be set from outside.
export K8S_VERSION=${K8S_VERSION:-1.35.4}      # k8s.io/kubernetes v$K8S_VERSION, staging modules v0.${K8S_VERSION#1.}
SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export REPO=$(cd "$SRC/../.." && pwd)
# What is built is kept for as long as neither the sources, go.sum among them, nor Go changes.
CACHE=${SIDESTEP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sidestep}/cluster
key() { { go env GOVERSION GOOS GOARCH; echo "$K8S_VERSION"; cd "$SRC" && find tools knative build knative-build -type f | LC_ALL=C sort | xargs sha256sum; } | sha256sum | cut -c1-16; }
export ROOT=${ROOT:-$CACHE/$(key)}             # programs in bin/, images in images/
export RUN=${RUN:-/tmp/sidestep-cluster}       # all state of the running cluster; a short path, since sockets are in it
export CGO_ENABLED=0
export BRIDGE=${BRIDGE:-k8s0}                  # the bridge the cluster lives on; made by up, removed by down
export NODE=${NODE:-node}
export NODE_IP=${NODE_IP:-10.244.0.1}          # the bridge's address: API server, kubelet, DNS and the pods' gateway
export POD_CIDR=${POD_CIDR:-10.244.0.0/24}
export SERVICE_CIDR=${SERVICE_CIDR:-10.96.0.0/16}
export SERVICE_IP=${SERVICE_IP:-10.96.0.1}
export KUBECONFIG=$RUN/pki/admin.kubeconfig
export PATH=$ROOT/bin:$PATH
CTR="ctr --address $RUN/containerd/containerd.sock --namespace k8s.io"
die() { echo "cluster: $*" >&2; exit 1; }
