#!/usr/bin/env bash
# A real OpenStack control plane (Keystone, Glance, Placement, Nova with its own in-tree fake hypervisor, Neutron)
# on loopback, for `fleet` to be held against. Everything lives under $LAB; nothing listens outside 127.0.0.1.
#
#   up.sh install   Python packages as pinned in requirements.txt into $LAB/venv (620 MB); MariaDB and RabbitMQ
#                   from Debian (root is needed for these two; on another system install them yourself)
#   up.sh start     configuration, databases, services, catalog, flavor, images, key pair; writes $LAB/openrc
#   up.sh status    processes and their memory
#   up.sh stop      ends exactly the processes that `start` wrote into $LAB/pids
#
# Needs 2 GB of memory; about 1.5 minutes to install, 1 to 2 for the first start, half a minute for later ones.
# SQLite will not do: a Nova of more than a few servers runs into "database is locked".
set -euo pipefail
HERE=$(dirname "$(readlink -f "$0")")
LAB=${LAB:-${XDG_CACHE_HOME:-$HOME/.cache}/fleet-nova}
VENV=$LAB/venv; PY=$VENV/bin/python; BIN=$VENV/bin
HOSTIP=127.0.0.1
P_AMQP=${P_AMQP:-19672}; P_EPMD=${P_EPMD:-19369}; P_DIST=${P_DIST:-19673}
P_KEYSTONE=19500; P_GLANCE=19292; P_PLACEMENT=19778; P_NOVA=19774; P_NEUTRON=19696
PW=${LAB_PASSWORD:-lab-only}
NODES=${NODES:-1}          # how many nova-compute processes (fake hypervisors)
mkdir -p "$LAB"/{etc,log,pids,db,images}

say() { printf '[%6.1fs] %s\n' "$(echo "$(date +%s.%N) - $T0" | bc)" "$*"; }
T0=$(date +%s.%N); SINCE=$(date -u +%Y-%m-%dT%H:%M:%S)

install() {
  [ -x "$PY" ] || python3 -m venv "$VENV"
  "$BIN/pip" install -q --disable-pip-version-check -r "$HERE/requirements.txt" 2>&1 | grep -v 'is ignored: it is neither' || true
  if ! command -v mariadbd >/dev/null; then
    apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mariadb-server
  fi
  if ! command -v rabbitmq-server >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rabbitmq-server bc
  fi
  say installed
}

spawn() { # name cmd...
  local name=$1; shift
  setsid "$@" >"$LAB/log/$name.log" 2>&1 </dev/null &
  echo $! > "$LAB/pids/$name.pid"
}
waitport() { # port name seconds
  for _ in $(seq $(( $3 * 10 ))); do
    (exec 3<>/dev/tcp/$HOSTIP/$1) 2>/dev/null && return 0
    [ -e "$LAB/pids/$2.pid" ] && ! kill -0 "$(cat "$LAB/pids/$2.pid")" 2>/dev/null && { echo "$2 died"; tail -20 "$LAB/log/$2.log"; return 1; }
    sleep 0.1
  done; echo "$2: port $1 not open"; tail -20 "$LAB/log/$2.log"; return 1
}
dburl() { echo "mysql+pymysql://lab:lab@$HOSTIP:19306/$1?charset=utf8"; }

rabbit() {
  export HOME=$LAB ERL_EPMD_ADDRESS=$HOSTIP ERL_EPMD_PORT=$P_EPMD
  export RABBITMQ_NODENAME=lab@localhost RABBITMQ_NODE_IP_ADDRESS=$HOSTIP RABBITMQ_NODE_PORT=$P_AMQP
  export RABBITMQ_DIST_PORT=$P_DIST RABBITMQ_MNESIA_BASE=$LAB/db/rabbit RABBITMQ_LOG_BASE=$LAB/log
  export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
  export RABBITMQ_ENABLED_PLUGINS_FILE=$LAB/etc/rabbit_plugins RABBITMQ_CONFIG_FILE=$LAB/etc/rabbitmq
  echo '[].' > "$LAB/etc/rabbit_plugins"
  printf 'loopback_users = none\nlisteners.tcp.default = %s:%s\n' $HOSTIP $P_AMQP > "$LAB/etc/rabbitmq.conf"
  local sbin; sbin=$(ls -d /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin)
  spawn epmd epmd -address $HOSTIP -port $P_EPMD
  spawn rabbit "$sbin/rabbitmq-server"
}

mysql_up() {
  [ -d "$LAB/db/mysql/mysql" ] || mariadb-install-db --no-defaults --user=root --datadir="$LAB/db/mysql" --auth-root-authentication-method=normal >"$LAB/log/mysql-init.log" 2>&1
  spawn mysql mariadbd --no-defaults --user=root --datadir="$LAB/db/mysql" --bind-address=$HOSTIP --port=19306 \
     --socket="$LAB/db/mysql.sock" --max-connections=500 --innodb-flush-log-at-trx-commit=0 --skip-log-bin
  waitport 19306 mysql 30
  for d in keystone glance placement neutron nova nova_api nova_cell0; do
    echo "create database if not exists $d character set utf8mb3;"; done | mariadb --no-defaults -S "$LAB/db/mysql.sock" -u root
  echo "create user if not exists 'lab'@'%' identified by 'lab'; grant all on *.* to 'lab'@'%'; create user if not exists 'lab'@'localhost' identified by 'lab'; grant all on *.* to 'lab'@'localhost'; flush privileges;" | mariadb --no-defaults -S "$LAB/db/mysql.sock" -u root
}

authtoken() { # section user
cat <<X
[$1]
auth_type = password
auth_url = http://$HOSTIP:$P_KEYSTONE/v3
username = $2
password = $PW
project_name = service
user_domain_name = Default
project_domain_name = Default
region_name = RegionOne
X
}

config() {
  for s in keystone glance placement nova neutron; do mkdir -p "$LAB/etc/$s"; done
  mkdir -p "$LAB/etc/keystone/fernet" "$LAB/etc/keystone/cred" "$LAB/nova" "$LAB/neutron" "$LAB/lock"
  local rabbit_url="rabbit://guest:guest@$HOSTIP:$P_AMQP/"
  cat > "$LAB/etc/keystone/keystone.conf" <<X
[DEFAULT]
public_endpoint = http://$HOSTIP:$P_KEYSTONE/
[database]
connection = $(dburl keystone)
[token]
provider = fernet
expiration = 86400
[fernet_tokens]
key_repository = $LAB/etc/keystone/fernet
[credential]
key_repository = $LAB/etc/keystone/cred
[cache]
enabled = false
X
  cat > "$LAB/etc/glance/glance-api.conf" <<X
[DEFAULT]
bind_host = $HOSTIP
enabled_backends = fs:file
lock_path = $LAB/lock
[database]
connection = $(dburl glance)
[glance_store]
default_backend = fs
[fs]
filesystem_store_datadir = $LAB/images
[os_glance_staging_store]
filesystem_store_datadir = $LAB/images/staging
[os_glance_tasks_store]
filesystem_store_datadir = $LAB/images/tasks
[paste_deploy]
flavor = keystone
config_file = $VENV/etc/glance/glance-api-paste.ini
[oslo_concurrency]
lock_path = $LAB/lock
X
  authtoken keystone_authtoken glance >> "$LAB/etc/glance/glance-api.conf"
  cat > "$LAB/etc/placement/placement.conf" <<X
[placement_database]
connection = $(dburl placement)
sync_on_startup = false
[api]
auth_strategy = keystone
X
  authtoken keystone_authtoken placement >> "$LAB/etc/placement/placement.conf"
  cat > "$LAB/etc/nova/nova.conf" <<X
[DEFAULT]
state_path = $LAB/nova
transport_url = $rabbit_url
my_ip = $HOSTIP
compute_driver = fake.FakeDriverWithoutFakeNodes
reserved_host_memory_mb = 0
vif_plugging_is_fatal = false
vif_plugging_timeout = 0
sync_power_state_interval = -1
osapi_compute_workers = 1
update_service_capabilities_interval = 3600
service_down_time = 86400
instance_usage_audit = false
block_device_allocate_retries = 1
[api]
auth_strategy = keystone
response_validation = ignore
[api_database]
connection = $(dburl nova_api)
[database]
connection = $(dburl nova)
[conductor]
workers = 1
[scheduler]
workers = 1
discover_hosts_in_cells_interval = 10
[filter_scheduler]
enabled_filters = ComputeFilter
[vnc]
enabled = false
[oslo_concurrency]
lock_path = $LAB/lock
[oslo_messaging_notifications]
driver = noop
[wsgi]
api_paste_config = $VENV/etc/nova/api-paste.ini
X
  { authtoken keystone_authtoken nova; authtoken placement placement; authtoken neutron neutron; authtoken service_user nova; echo 'send_service_user_token = true'; } >> "$LAB/etc/nova/nova.conf"
  cp "$VENV/etc/nova/api-paste.ini" "$LAB/etc/nova/"
  printf '[glance]\nendpoint_override = http://%s:%s\n' $HOSTIP $P_GLANCE >> "$LAB/etc/nova/nova.conf"
  printf '[neutron]\nendpoint_override = http://%s:%s\n' $HOSTIP $P_NEUTRON >> "$LAB/etc/nova/nova.conf"
  cat > "$LAB/etc/neutron/neutron.conf" <<X
[DEFAULT]
core_plugin = ml2
service_plugins = router,port_forwarding
transport_url = $rabbit_url
auth_strategy = keystone
state_path = $LAB/neutron
api_paste_config = $VENV/etc/neutron/api-paste.ini
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
allow_overlapping_ips = true
[database]
connection = $(dburl neutron)
[oslo_concurrency]
lock_path = $LAB/lock
[oslo_messaging_notifications]
driver = noop
[ml2]
type_drivers = local,flat
tenant_network_types = local
mechanism_drivers = test
extension_drivers =
[experimental]
X
  authtoken keystone_authtoken neutron >> "$LAB/etc/neutron/neutron.conf"
}

wsgi() { # name port module envvars...   (options by file: these applications read sys.argv themselves)
  local name=$1 port=$2 module=$3; shift 3
  cat > "$LAB/etc/gunicorn-$name.py" <<X
wsgi_app = "$module:application"
bind = "$HOSTIP:$port"
worker_class = "gthread"
workers = ${WORKERS:-1}
threads = 16
timeout = 120
graceful_timeout = 3
keepalive = 75
def post_worker_init(worker):   # neutron's list-ports needs this mapper set up before the first request
    if "$name" == "neutron":
        import neutron.db.models.port_forwarding, sqlalchemy.orm
        sqlalchemy.orm.configure_mappers()
X
  spawn "$name" env "$@" GUNICORN_CMD_ARGS="-c $LAB/etc/gunicorn-$name.py" "$BIN/gunicorn"
}

openrc() {
cat > "$LAB/openrc" <<X
export OS_AUTH_URL=http://$HOSTIP:$P_KEYSTONE/v3 OS_USERNAME=fleet OS_PASSWORD=$PW OS_PROJECT_NAME=fleet
export OS_USER_DOMAIN_NAME=Default OS_PROJECT_DOMAIN_NAME=Default OS_IDENTITY_API_VERSION=3 OS_REGION_NAME=RegionOne
export FLEET_NOVA_LAB=$LAB
X
}

start() {
  config; openrc
  rabbit
  mysql_up
  local KC="--config-file $LAB/etc/keystone/keystone.conf" NC="--config-file $LAB/etc/nova/nova.conf"
  if [ ! -e "$LAB/db/.synced" ]; then
    ( "$BIN/keystone-manage" $KC fernet_setup --keystone-user root --keystone-group root
      "$BIN/keystone-manage" $KC credential_setup --keystone-user root --keystone-group root
      "$BIN/keystone-manage" $KC db_sync
      "$BIN/keystone-manage" $KC bootstrap --bootstrap-password "$PW" --bootstrap-admin-url http://$HOSTIP:$P_KEYSTONE/v3/ \
        --bootstrap-internal-url http://$HOSTIP:$P_KEYSTONE/v3/ --bootstrap-public-url http://$HOSTIP:$P_KEYSTONE/v3/ --bootstrap-region-id RegionOne
    ) > "$LAB/log/keystone-manage.log" 2>&1 & local p1=$!
    "$BIN/glance-manage" --config-file "$LAB/etc/glance/glance-api.conf" db_sync > "$LAB/log/glance-manage.log" 2>&1 & local p2=$!
    "$BIN/placement-manage" --config-file "$LAB/etc/placement/placement.conf" db sync > "$LAB/log/placement-manage.log" 2>&1 & local p3=$!
    ( "$BIN/nova-manage" $NC api_db sync
      "$BIN/nova-manage" $NC cell_v2 map_cell0 --database_connection "$(dburl nova_cell0)"
      "$BIN/nova-manage" $NC db sync
      "$BIN/nova-manage" $NC cell_v2 create_cell --name cell1
    ) > "$LAB/log/nova-manage.log" 2>&1 & local p4=$!
    "$BIN/neutron-db-manage" --config-file "$LAB/etc/neutron/neutron.conf" upgrade heads > "$LAB/log/neutron-manage.log" 2>&1 & local p5=$!
    wait $p1 && wait $p2 && wait $p3 && wait $p4 && wait $p5
    touch "$LAB/db/.synced"
    say "databases synced"
  fi
  wsgi keystone $P_KEYSTONE keystone.wsgi.api OS_KEYSTONE_CONFIG_FILES="$LAB/etc/keystone/keystone.conf"
  wsgi placement $P_PLACEMENT placement.wsgi.api OS_PLACEMENT_CONFIG_DIR="$LAB/etc/placement"
  wsgi glance $P_GLANCE glance.wsgi.api OS_GLANCE_CONFIG_DIR="$LAB/etc/glance" OS_GLANCE_CONFIG_FILES="glance-api.conf"
  waitport $P_KEYSTONE keystone 60; say "keystone up"
  if [ ! -e "$LAB/db/.catalog" ]; then catalog; touch "$LAB/db/.catalog"; say "catalogue written"; fi
  waitport $P_AMQP rabbit 60; say "rabbit up"
  spawn nova-conductor "$BIN/nova-conductor" $NC
  spawn nova-scheduler "$BIN/nova-scheduler" $NC
  wsgi nova $P_NOVA nova.wsgi.osapi_compute OS_NOVA_CONFIG_DIR="$LAB/etc/nova"
  wsgi neutron $P_NEUTRON neutron.wsgi.api OS_NEUTRON_CONFIG_DIR="$LAB/etc/neutron" OS_NEUTRON_CONFIG_FILES="neutron.conf"
  for n in $(seq "$NODES"); do
    mkdir -p "$LAB/nova/n$n"
    printf '[DEFAULT]\nhost = fake%s\nstate_path = %s\n' "$n" "$LAB/nova/n$n" > "$LAB/etc/compute$n.conf"
    spawn nova-compute$n "$BIN/nova-compute" $NC --config-file "$LAB/etc/compute$n.conf"
  done
  waitport $P_GLANCE glance 60; waitport $P_PLACEMENT placement 60; waitport $P_NOVA nova 90
  waitport $P_NEUTRON neutron 90
  say "APIs up"
  for _ in $(seq 60); do "$BIN/nova-manage" $NC cell_v2 discover_hosts --verbose >> "$LAB/log/discover.log" 2>&1; grep -q 'fake1\|Creating host mapping' "$LAB/log/discover.log" && break; sleep 1; done
  say "compute host mapped"
  "$PY" "$HERE/seed.py" "http://$HOSTIP:$P_KEYSTONE/v3" "$PW" "$NODES" "$SINCE" && say "flavor, images and key pair seeded; source $LAB/openrc"
}

catalog() { "$PY" "$HERE/catalog.py" "http://$HOSTIP:$P_KEYSTONE/v3" "$PW" \
   image=http://$HOSTIP:$P_GLANCE placement=http://$HOSTIP:$P_PLACEMENT compute=http://$HOSTIP:$P_NOVA/v2.1 network=http://$HOSTIP:$P_NEUTRON; }

stop() { # epmd last: rabbit starts another one if it misses it
  local f p
  for f in $(ls "$LAB"/pids/*.pid 2>/dev/null | grep -v /epmd); do
    p=$(cat "$f"); kill -TERM -- "-$p" 2>/dev/null || kill -TERM "$p" 2>/dev/null || true; done
  sleep 3
  for f in $(ls "$LAB"/pids/*.pid 2>/dev/null | grep -v /epmd) $(ls "$LAB"/pids/epmd.pid 2>/dev/null); do
    p=$(cat "$f"); kill -KILL -- "-$p" 2>/dev/null || true; rm -f "$f"; done
  sleep 0.5; ERL_EPMD_ADDRESS=$HOSTIP epmd -port $P_EPMD -kill >/dev/null 2>&1 || true   # one that rabbit started by itself: ours alone, by its port
}
status() { for f in "$LAB"/pids/*.pid; do p=$(cat "$f"); n=$(basename "$f" .pid)
   kill -0 "$p" 2>/dev/null && echo "$n $p $(ps -o rss= --pid "$p" --ppid "$p" | awk '{s+=$1} END {printf "%d MB", s/1024}')" || echo "$n dead"; done; }
"$@"
