#!/usr/bin/env bash
# PingCAP's page "Renew and Replace the TLS Certificate", typed as it stands: a new CA, new certificates, and the optional
# removal of the old CA, with cfssl and kubectl. The tests run it beside `tidb/cfssl-rotate`.
#
# It runs in the PKI folder. CLUSTER and NAMESPACE name the cluster, PODS says how many it has; each program that is started
# is noted in the file COUNTED. At its end it prints how many microseconds it has waited for restarts.
set -euo pipefail

doing=work
for program in cfssl cfssljson kubectl mv cat sleep; do
  # A line in a file costs next to nothing; a program that counted would cost more than what it counts.
  eval "$program() { echo \"\$doing $program\" >>\"\$COUNTED\"; command $program \"\$@\"; }"
done

update_secret() { # SECRET STEM CA-FILE
  kubectl create secret generic "$CLUSTER-$1" --namespace="$NAMESPACE" --from-file=tls.crt="$2.pem" \
    --from-file=tls.key="$2-key.pem" --from-file=ca.crt="$3" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
}

update_secrets() { # CA-FILE
  for component in pd tikv tidb; do update_secret "$component-cluster-secret" "$component-server" "$1"; done
  update_secret cluster-client-secret client "$1"
}

# Every pod has the marker and is ready, and the operator is content again. Its condition alone may be from before, and
# `kubectl rollout status` takes a StatefulSet whose partition holds pods back for done.
restarted() { # MARKER
  local pods
  while :; do
    pods=$(kubectl get pods --namespace="$NAMESPACE" --selector="app.kubernetes.io/instance=$CLUSTER,app.kubernetes.io/component!=client" \
      -o jsonpath='{range .items[*]}{.metadata.annotations.tidb\.pingcap\.com/restartedAt} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}')
    [ "$pods" = "$(for ((n = 0; n < PODS; n++)); do echo "$1 True"; done)" ] && break
    sleep 1
  done
  kubectl wait --namespace="$NAMESPACE" --for=condition=Ready "tidbcluster/$CLUSTER" --timeout=600s >/dev/null
  kubectl rollout status --namespace="$NAMESPACE" "deployment/$CLUSTER-client" --timeout=600s >/dev/null
}

waited=0
# "Perform the rolling restart"; and of the cluster's client, which loads the CA when it starts as well.
restart() {
  local marker begun
  printf -v marker '%(%Y-%m-%dT%H:%M:%S)T' -1
  kubectl patch tidbcluster "$CLUSTER" --namespace="$NAMESPACE" --type merge --patch "{\"spec\":{
    \"pd\":{\"annotations\":{\"tidb.pingcap.com/restartedAt\":\"$marker\"}},
    \"tikv\":{\"annotations\":{\"tidb.pingcap.com/restartedAt\":\"$marker\"}},
    \"tidb\":{\"annotations\":{\"tidb.pingcap.com/restartedAt\":\"$marker\"}}}}" >/dev/null
  kubectl rollout restart "deployment/$CLUSTER-client" --namespace="$NAMESPACE" >/dev/null
  doing=wait begun=${EPOCHREALTIME/[.,]/}
  restarted "$marker"
  waited=$((waited + ${EPOCHREALTIME/[.,]/} - begun)) doing=work
}

# Renew and replace the CA certificate.
mv ca.pem ca.old.pem && \
mv ca-key.pem ca-key.old.pem
cfssl gencert -initca ca-csr.json | cfssljson -bare ca -
mv ca.pem ca.new.pem && \
mv ca-key.pem ca-key.new.pem && \
cat ca.new.pem ca.old.pem > ca.pem
update_secrets ca.pem
restart

# Renew and replace certificates between components.
for component in pd tikv tidb; do
  cfssl gencert -ca=ca.new.pem -ca-key=ca-key.new.pem -config=ca-config.json -profile=internal "$component-server.json" | cfssljson -bare "$component-server"
done
cfssl gencert -ca=ca.new.pem -ca-key=ca-key.new.pem -config=ca-config.json -profile=client client.json | cfssljson -bare client
update_secrets ca.pem
restart

# Optional: remove the original CA certificate from the combined CA certificate.
update_secrets ca.new.pem
restart

echo "$waited"
