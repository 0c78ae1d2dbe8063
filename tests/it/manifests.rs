//! The files for containers and clusters in `conf/`: each is well formed, names only what is there, and what it starts is started
//! here as a container engine or a cluster would.

use crate::client::{Client, request};
use crate::command::{Folder, binary, eventually, finish, private, started_by};
use crate::file_access::{as_kubelet, mode, owned};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::options::Options;
use crate::platform::Platform;
use crate::postgres_server::free_port;
use crate::proxies::{LIES, lied_to};
use nix::unistd::geteuid;
use serde_yaml::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(conf(name)).expect(name)
}

/// Every document of a YAML file. Throughout, a member that is not there is null.
fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| serde::Deserialize::deserialize(document).expect("YAML"))
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value:?}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_sequence().unwrap_or_else(|| panic!("not a list: {value:?}"))
}

/// What is in `conf/kubernetes`, by kind and name.
struct Cluster(BTreeMap<(String, String), Value>);

impl Cluster {
    fn read() -> Self {
        let mut objects = BTreeMap::new();
        for entry in fs::read_dir(conf("kubernetes")).expect("a folder") {
            let path = entry.expect("an entry").path();
            for object in documents(&fs::read_to_string(&path).expect("a file")) {
                let members: Vec<&str> = object.as_mapping().expect("an object").keys().map(text).collect();
                let known = ["apiVersion", "kind", "metadata", "spec", "data", "stringData", "type"];
                assert!(members.iter().all(|member| known.contains(member)), "{path:?}: {members:?}");
                let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
                let version = match kind {
                    "Deployment" => "apps/v1",
                    "ServiceMonitor" => "monitoring.coreos.com/v1",
                    _ => "v1",
                };
                assert_eq!(text(&object["apiVersion"]), version, "{kind}");
                objects.insert((kind.to_owned(), name.to_owned()), object.clone());
            }
        }
        Self(objects)
    }

    #[track_caller]
    fn get(&self, kind: &str, name: &str) -> &Value {
        self.0.get(&(kind.to_owned(), name.to_owned())).unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    #[track_caller]
    fn has(&self, kind: &str, name: &str) {
        assert!(!self.get(kind, name).is_null());
    }

    fn pod(&self) -> &Value {
        &self.get("Deployment", "ds-gateway")["spec"]["template"]
    }

    fn container(&self) -> &Value {
        let containers = list(&self.pod()["spec"]["containers"]);
        assert_eq!(containers.len(), 1);
        &containers[0]
    }

    /// The number of a port that the container names.
    fn port(&self, name: &Value) -> u64 {
        let port = list(&self.container()["ports"]).iter().find(|port| port["name"] == *name);
        port.unwrap_or_else(|| panic!("no port {name:?}"))["containerPort"].as_u64().expect("a number")
    }

    fn configuration(&self) -> &str {
        text(&self.get("ConfigMap", "ds-gateway")["data"]["gateway.toml"])
    }
}

/// Are all of these labels among those?
fn selects(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_mapping().expect("labels");
    !selector.is_empty() && selector.iter().all(|(name, value)| labels[name] == *value)
}

#[test]
fn what_the_objects_of_a_cluster_name_is_there() {
    let cluster = Cluster::read();
    let (deployment, pod) = (cluster.get("Deployment", "ds-gateway"), cluster.pod());
    assert!(selects(&deployment["spec"]["selector"]["matchLabels"], &pod["metadata"]["labels"]));
    assert_eq!(
        (&deployment["spec"]["replicas"], text(&deployment["spec"]["strategy"]["type"])),
        (&1.into(), "Recreate")
    );
    let (mut services, mut admin) = (0, None);
    for ((kind, name), object) in &cluster.0 {
        if kind == "Service" {
            services += 1;
            assert!(selects(&object["spec"]["selector"], &pod["metadata"]["labels"]), "{name}");
            for port in list(&object["spec"]["ports"]) {
                cluster.port(&port["targetPort"]);
            }
            let monitor = cluster.get("ServiceMonitor", "ds-gateway");
            if selects(&monitor["spec"]["selector"]["matchLabels"], &object["metadata"]["labels"]) {
                assert!(admin.replace(object).is_none(), "one Service is scraped");
                for endpoint in list(&monitor["spec"]["endpoints"]) {
                    assert!(
                        list(&object["spec"]["ports"]).iter().any(|port| port["name"] == endpoint["port"])
                    );
                    assert_eq!(text(&endpoint["path"]), "/metrics");
                }
            }
        }
    }
    assert!(services == 2 && admin.is_some());
    let mounts = list(&cluster.container()["volumeMounts"]);
    let volumes = list(&pod["spec"]["volumes"]);
    assert_eq!(mounts.len(), volumes.len());
    for volume in volumes {
        assert!(mounts.iter().any(|mount| mount["name"] == volume["name"]), "{volume:?}");
        match (&volume["configMap"], &volume["secret"], &volume["persistentVolumeClaim"]) {
            (map, Value::Null, Value::Null) => {
                cluster.has("ConfigMap", text(&map["name"]));
            }
            (Value::Null, secret, Value::Null) => {
                cluster.has("Secret", text(&secret["secretName"]));
                assert_eq!(secret["defaultMode"].as_u64(), Some(0o440));
            }
            (Value::Null, Value::Null, claim) => {
                cluster.has("PersistentVolumeClaim", text(&claim["claimName"]));
            }
            other => panic!("{other:?}"),
        }
    }
    let stop = pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("seconds");
    assert!(stop > 10 + 30, "longer than drain_delay and grace");
    // The container that is built has the same account.
    let containerfile = read("container/Containerfile");
    let user = pod["spec"]["securityContext"]["runAsUser"].as_u64().expect("a user");
    assert!(containerfile.contains(&format!("--uid {user} ")), "{containerfile}");
}

/// The pod as a cluster starts it: the files of ConfigMap and Secret as the kubelet mounts them, a volume that belongs to root and a
/// group, the account and its group, and the variables that it sets for Services.
struct Pod {
    cluster: Cluster,
    folder: Folder,
    ports: BTreeMap<u64, u16>,
}

impl Pod {
    fn new(cluster: Cluster, platform: &Platform) -> Self {
        let folder = Options::new(platform).nobody().folder();
        let top = folder.dir.path();
        mode(top, 0o755);
        let ports: BTreeMap<u64, u16> = list(&cluster.container()["ports"])
            .iter()
            .map(|port| (cluster.port(&port["name"]), free_port()))
            .collect();
        let mut configuration = cluster.configuration().replace("http://platform:9000", &platform.url());
        for (port, free) in &ports {
            assert!(configuration.contains(&format!(":{port}\"")), "the configuration listens on {port}");
            configuration = configuration.replace(&format!(":{port}\""), &format!(":{free}\""));
        }
        let mut mounts: Vec<&str> = list(&cluster.container()["volumeMounts"])
            .iter()
            .map(|mount| text(&mount["mountPath"]))
            .collect();
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.len()));
        for mount in &mounts {
            configuration =
                configuration.replace(&format!("\"{mount}/"), &format!("\"{}{mount}/", top.display()));
        }
        let group = group(&cluster);
        let secret = cluster.get("Secret", "ds-gateway-keys");
        let names: Vec<String> = secret["stringData"]
            .as_mapping()
            .expect("a secret")
            .keys()
            .map(|name| text(name).to_owned())
            .collect();
        let secret = names
            .iter()
            .map(|name| (name.clone(), "a secret of the tests, long enough: a cluster's".to_owned()));
        mount(&top.join("etc/ds-gateway"), [("gateway.toml".to_owned(), configuration)], 0o644, group);
        mount(&top.join("etc/ds-gateway-keys"), secret, 0o440, group);
        let volume = top.join("var/lib/ds-gateway");
        fs::create_dir_all(&volume).expect("a folder");
        as_kubelet(&volume, group);
        Self { cluster, folder, ports }
    }

    /// The binary with these arguments, as in the container.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary();
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
        for variable in list(&self.cluster.container()["env"]) {
            let value = text(&variable["value"]);
            let is_path = value.starts_with('/');
            let value = if is_path {
                format!("{}{value}", self.folder.dir.path().display())
            } else {
                value.to_owned()
            };
            command.env(text(&variable["name"]), value);
        }
        for (name, value) in [
            ("DS_GATEWAY_SERVICE_HOST", "10.0.0.1"),
            ("DS_GATEWAY_SERVICE_PORT", "443"),
            ("DS_GATEWAY_SERVICE_PORT_HTTPS", "443"),
            ("DS_GATEWAY_PORT", "tcp://10.0.0.1:443"),
            ("DS_GATEWAY_PORT_443_TCP_PORT", "443"),
            ("DS_GATEWAY_ADMIN_SERVICE_HOST", "10.0.0.2"),
            ("DS_GATEWAY_ADMIN_PORT_9464_TCP_ADDR", "10.0.0.2"),
        ] {
            command.env(name, value);
        }
        let context = &self.cluster.pod()["spec"]["securityContext"];
        let id = |name: &str| context[name].as_u64().expect("an account");
        let (user, own, group) = (id("runAsUser"), id("runAsGroup"), id("fsGroup"));
        let options = [format!("--reuid={user}"), format!("--regid={own}"), format!("--groups={group}")];
        let prefix =
            ["setpriv", &options[0], &options[1], &options[2], "--bounding-set=-all", "--no-new-privs"];
        started_by(&prefix, &command)
    }

    /// As the container is started, and asked as the probes ask.
    fn start(&self, arguments: &[&str]) -> Running {
        let mut child = Running(self.command(arguments).stdin(Stdio::null()).spawn().expect("the binary"));
        for name in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let probe = &self.cluster.container()[name]["httpGet"];
            let (path, port) = (text(&probe["path"]), self.ports[&self.cluster.port(&probe["port"])]);
            eventually(name, || {
                assert!(child.0.try_wait().expect("a child").is_none(), "the container has ended");
                (get(port, path)? == 200).then_some(())
            });
        }
        assert_eq!(get(self.ports[&9464], "/metrics"), Some(200));
        child
    }
}

fn group(cluster: &Cluster) -> u32 {
    let group = cluster.pod()["spec"]["securityContext"]["fsGroup"].as_u64().expect("a group");
    u32::try_from(group).expect("a group")
}

/// The status of a request as the kubelet sends it: Host is the pod's address.
fn get(port: u16, path: &str) -> Option<u16> {
    let mut client = Client::try_connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).ok()?;
    client
        .try_send(format!("GET {path} HTTP/1.1\r\nHost: 10.1.2.3:{port}\r\nConnection: close\r\n\r\n"))
        .ok()?;
    Some(client.answer().ok()?.status)
}

struct Running(Child);

impl Running {
    fn stop(mut self) {
        let asked = Command::new("kill").arg(self.0.id().to_string()).status().expect("kill");
        assert!(asked.success());
        let status = eventually("its end", || self.0.try_wait().expect("a child"));
        assert!(status.success(), "{status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Files as the kubelet mounts them: each name is a link into a folder that is a link to the present version.
fn mount(folder: &Path, files: impl IntoIterator<Item = (String, String)>, bits: u32, group: u32) {
    let version = folder.join("..2026_11_26");
    fs::create_dir_all(&version).expect("a folder");
    symlink("..2026_11_26", folder.join("..data")).expect("a link");
    for (name, content) in files {
        private(&version.join(&name), content.as_bytes());
        owned(&version.join(&name), 0, group);
        mode(&version.join(&name), bits);
        symlink(Path::new("..data").join(&name), folder.join(&name)).expect("a link");
    }
}

#[test]
fn the_pod_of_the_cluster_starts_and_starts_again() {
    if !geteuid().is_root() {
        return;
    }
    let platform = Platform::echo();
    let pod = Pod::new(Cluster::read(), &platform);
    let arguments: Vec<String> =
        list(&pod.cluster.container()["args"]).iter().map(|part| text(part).to_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert_eq!(arguments, ["run"]);
    // What the comment says of the first time.
    let comment = read("kubernetes/deployment.yaml");
    assert!(comment.contains("args: [\"run\", \"--init\"]"));
    let refused = finish(pod.command(&arguments), "");
    assert!(refused.code == Some(1) && refused.stderr.contains("--init"), "{refused:?}");
    let first = pod.start(&["run", "--init"]);
    let add = ["user", "add", USER, "--email", EMAIL, "--organization", ORGANIZATION, "--password-stdin"];
    finish(pod.command(&add), PASSWORD).ok();
    finish(pod.command(&["check"]), "").ok();
    first.stop();
    as_kubelet(&pod.folder.dir.path().join("var/lib/ds-gateway"), group(&pod.cluster));
    let again = pod.start(&arguments);
    assert!(finish(pod.command(&["user", "list"]), "").ok().contains(USER));
    again.stop();
}

#[test]
fn the_secret_as_it_stands_in_the_file_is_refused() {
    let cluster = Cluster::read();
    let secret =
        cluster.get("Secret", "ds-gateway-keys")["stringData"].as_mapping().expect("a secret").clone();
    for (name, content) in secret {
        let entry = format!("[{{ kid = \"a\", algorithm = \"HS256\", file = {:?} }}]", text(&name));
        let folder = crate::configuration::options().set("token", "keys", entry).folder();
        private(&folder.dir.path().join(text(&name)), text(&content).as_bytes());
        let done = folder.cli(&["check", "--config-only"], "");
        assert!(done.code == Some(64) && done.stderr.contains("token.keys"), "{done:?}");
        assert!(cluster.configuration().contains(&format!("/etc/ds-gateway-keys/{}", text(&name))));
    }
}

fn compose() -> Value {
    documents(&read("container/compose.yaml")).pop().expect("a document")
}

#[test]
fn what_the_compose_file_names_is_there() {
    let compose = compose();
    let services = compose["services"].as_mapping().expect("services");
    let names: Vec<&str> = services.keys().map(text).collect();
    assert_eq!(names, ["web", "gateway", "backend"]);
    for (name, service) in services {
        for network in list(&service["networks"]) {
            assert!(!compose["networks"][network].is_null(), "{name:?} {network:?}");
        }
        for volume in service["volumes"].as_sequence().into_iter().flatten() {
            let source = text(volume).split(':').next().expect("a source");
            if let Some(file) = source.strip_prefix("./") {
                assert!(conf("container").join(file).is_file(), "{file}");
            } else if !source.starts_with("${") {
                assert!(compose["volumes"].as_mapping().expect("volumes").contains_key(source), "{source}");
            }
        }
        assert!(service["ports"].is_null() || text(name) == "web", "nothing else is published");
    }
    let gateway = &compose["services"]["gateway"];
    let build = &gateway["build"];
    let context = conf("container").join(text(&build["context"]));
    assert!(context.join("Cargo.toml").is_file() && context.join(text(&build["dockerfile"])).is_file());
    // Its name must resolve when the gateway starts.
    let backend = &gateway["depends_on"]["backend"];
    assert_eq!(text(&backend["condition"]), "service_started");
    let volume = text(&list(&gateway["volumes"])[0]).split(':').nth(1).expect("a path").to_owned();
    assert!(read("container/gateway.toml").contains(&format!("state_dir = \"{volume}/state\"")));
    // Who is trusted to name the client is who is in that network.
    let subnet = text(&list(&compose["networks"]["inside"]["ipam"]["config"])[0]["subnet"]);
    assert_eq!(text(&gateway["environment"]["DS_GATEWAY__SERVER__TRUSTED_PROXIES"]), subnet);
    // The gateway knows every variable, and what it is then.
    let (port, nginx) =
        (text(&gateway["environment"]["DS_GATEWAY__SERVER__HTTP"]), read("container/nginx.conf"));
    assert!(nginx.contains(&format!("proxy_pass http://gateway{port};")), "{nginx}");
    let mut command = binary();
    command.args(["check", "--config-only", "--config"]).arg(conf("container/gateway.toml"));
    command.envs(environment(gateway));
    let done = finish(command, "");
    assert!(done.code == Some(0) && done.stderr.contains("server.http: "), "{done:?}");
    assert!(!done.stderr.contains("trusted_proxies"), "{done:?}");
}

/// The variables of a service, where nobody has set those that the file refers to.
fn environment(service: &Value) -> Vec<(String, String)> {
    let value = |value: &Value| match text(value) {
        reference if reference.starts_with("${") => {
            let (_, default) = reference.trim_end_matches('}').split_once(":-").expect("a default");
            default.to_owned()
        }
        value => value.to_owned(),
    };
    let variables = service["environment"].as_mapping().expect("variables").iter();
    variables.map(|(name, given)| (text(name).to_owned(), value(given))).collect()
}

/// The gateway of the compose file on a port of this machine, which trusts the machine instead of the network.
fn composed(platform: &Platform) -> Gateway {
    let compose = compose();
    let folder = Options::new(platform).nobody().folder();
    let configuration = read("container/gateway.toml")
        .replace("/var/lib/ds-gateway/state", &folder.state().display().to_string())
        .replace("\":9464\"", "\"127.0.0.1:0\"")
        // What the test harness looks for: which listeners there are. A variable switches the file's off.
        .replace("\nhttps = ", "\nhttp = []\n  https = ");
    fs::write(folder.config(), configuration).expect("a configuration");
    let mut variables: BTreeMap<String, String> =
        environment(&compose["services"]["gateway"]).into_iter().collect();
    for (name, value) in [
        ("DS_GATEWAY__SERVER__HTTP", "127.0.0.1:0"),
        ("DS_GATEWAY__SERVER__TRUSTED_PROXIES", "127.0.0.1"),
        ("DS_GATEWAY__PLATFORM__SERVERS", platform.url().as_str()),
    ] {
        assert!(variables.insert(name.to_owned(), value.to_owned()).is_some(), "{name}");
    }
    let add = ["user", "add", USER, "--email", EMAIL, "--organization", ORGANIZATION, "--password-stdin"];
    let with = |arguments: &[&str]| {
        let mut command = folder.command(arguments);
        command.envs(&variables);
        command
    };
    finish(with(&add), PASSWORD).ok();
    let command = with(&["run"]);
    Gateway::start(folder, command)
}

#[test]
fn the_health_check_of_the_compose_file_tells_a_gateway_that_is_ready() {
    let platform = Platform::echo();
    let gateway = composed(&platform);
    let compose = compose();
    let test: Vec<&str> =
        list(&compose["services"]["gateway"]["healthcheck"]["test"]).iter().map(text).collect();
    assert_eq!(test[0], "CMD");
    let asked = |port: u16| {
        let mut command = Command::new(test[1]);
        command.args(test[2..].iter().map(|part| part.replace("/9464", &format!("/{port}"))));
        finish(command, "").code
    };
    assert_eq!(asked(gateway.admin_address().port()), Some(0));
    assert_ne!(asked(gateway.http().port()), Some(0), "something else listens there");
    assert_ne!(asked(free_port()), Some(0), "nobody listens there");
    gateway.still_healthy();
}

#[test]
fn nginx_of_the_compose_file_leads_to_the_gateway() {
    let platform = Platform::echo();
    let gateway = composed(&platform);
    let dir = tempfile::tempdir().expect("a folder");
    mode(dir.path(), 0o755);
    let port = free_port();
    let shown = dir.path().display().to_string();
    fs::write(dir.path().join("index.html"), "the web interface").expect("a page");
    let server = read("container/nginx.conf")
        .replace("listen 8080", &format!("listen 127.0.0.1:{port}"))
        .replace("/usr/share/nginx/html", &shown)
        .replace("http://gateway:8080", &format!("http://{}", gateway.http()));
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {shown}/{name};\n"))
        .concat();
    let main = format!(
        "daemon off;\nmaster_process off;\npid {shown}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{server}}}\n"
    );
    fs::write(dir.path().join("nginx.conf"), main).expect("a configuration");
    let mut command = Command::new("nginx");
    command.arg("-c").arg(dir.path().join("nginx.conf")).args(["-p", &shown]).stdin(Stdio::null());
    let nginx = Running(command.spawn().expect("nginx"));
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    eventually("nginx", || Client::try_connect(at).ok());
    let ask = |bytes: Vec<u8>| Client::connect(at).exchange(bytes);
    assert_eq!(ask(request("GET", "/", &[])).text(), "the web interface");
    assert_eq!(ask(request("GET", "/ds-api/servers", &[])).status, 401);
    let basic = crate::client::basic(USER, PASSWORD);
    let minted = eventually("a token", || {
        let answer =
            ask(request("POST", "/ds-api/user-token", &[("Authorization", &basic), ("Content-Length", "0")]));
        (answer.status == 201).then(|| answer.json()["user-token"].as_str().expect("a token").to_owned())
    });
    let fields = [&[("user-token", minted.as_str())], LIES.as_slice()].concat();
    assert_eq!(ask(request("GET", "/ds-api/servers?x=1", &fields)).status, 200);
    let seen = platform.request("/ds-api/servers?x=1");
    assert_eq!(seen.values("x-ds-user"), [USER]);
    assert_eq!(seen.values("x-forwarded-proto"), ["http"]);
    assert!(!lied_to(&platform), "what a client says of itself ends at nginx");
    drop(nginx);
    gateway.still_healthy();
}
