//! Output and exit status of command lines, compared with those of the `docker` program on the same root.

mod common;

use common::{Done, root, root_with_busybox, tars};
use strata_testkit::Dockerd;

/// Command lines that both programs answer alike, one a line, words separated by single spaces; `~` stands for a space in a word.
const LINES: &str = r#"
inspect nosuch
inspect -f {{.ID}} nosuch box
inspect -f {{.Name}} box nosuch bb:1
inspect --type image nosuch
inspect --type container nosuch
inspect --type container bb:1
inspect --type image box
inspect --type nosuch box
inspect --type= -f {{.Name}} box
inspect -s -f {{.RepoTags}} bb:1
inspect --size=false -f {{.Name}} box
inspect --size=maybe box
inspect -f {{.x box nosuch
inspect -f {{.Created}} box
inspect -f {{.Created}} bb:1
inspect -f={{.Name}} box
inspect --format={{.Name}} box twin
inspect --format {{.Name}} --format {{.Path}} box
inspect -f {{.Id}}
inspect
image inspect nosuch
image inspect -f {{.RepoTags}} bb:1 bb:2
image inspect box
image inspect
container inspect nosuch
container inspect -f {{.Name}} box
container inspect bb:1
info -f {{
info -f {{.Nope}}
version -f {{
version --nope
version x
ps
ps nosucharg
ps --nope
ps -aqz
ps --format {{
ps -a --format {{.Nope}}
ps -a --format {{.Names}}
ps -a --format {{.Label~"a"}}:{{.Names}}
ps -a --format table~{{.Label~''}}
ps -a --format table~{{.Label~"a"}}
ps -aq
ps -aq --no-trunc
ps -a=true -q
ps -a=false -q
ps -a --quiet=0 --format {{.ID}}
ps -a -q=maybe
ps -n 1 -q
ps -n1 -q
ps -n=1 -q
ps -n x
ps -n 0 -q
ps --last
ps -lq
ps -f nope=1
ps -a -f status=created -q
ps -a -f ancestor=nosuch
ps -a -f ancestor=bb:1 --format {{.Names}}
ps -a -f ancestor=bb --format {{.Names}}
ps -a -f ancestor=other --format {{.Names}}
ps -a -f ancestor=other:latest --format {{.Names}}
ps -a -f name=o --format {{.Names}}
ps -a -f name=[ -q
ps -a -f since=nosuch
ps -a -f before=nosuch
ps -a -f since=box --format {{.Names}}
ps -a -f before=twin --format {{.Names}}
ps -a -f label=a --format {{.Names}}
ps -a -f label=a=1 --format {{.Names}}
ps -a -f label=a=2 --format {{.Names}}
ps -a -f label=a -f label=b --format {{.Names}}
ps -a -f name=box -f name=twin --format {{.Names}}
ps -a -f health=nosuch
ps -a -f publish=x -q
images nosuch
images a b
images --nope
images -f nope=1
images -f dangling=maybe
images -f reference=b*:1 --format {{.Tag}}
images -f reference=b* --format {{.Tag}}
images b* --format {{.Tag}}
images bb:* --format {{.Tag}}
images bb --format {{.Tag}}
images bb:2 --format {{.Tag}}
images -f since=bb:1 --format {{.Repository}}
images -f before=other --format {{.Repository}}:{{.Tag}}
images -f since=nosuch
images -f label=a --format {{.Repository}}:{{.Tag}}
images -f label=nosuch -q
images --format {{
images --format {{json~.Repository}}
history
history nosuch
history -q bb:1
history --no-trunc -q bb:1
history -H=false --format {{.Size}} bb:1
history --human=0 --format {{.CreatedAt}}|{{.CreatedBy}}|{{.Comment}} bb:1
history --format {{ bb:1
history a b
tag
tag a
tag a b c
rmi
rm
commit
diff
diff nosuch
diff a b
export
export nosuch
save
save nosuch
import
create
create --nope
run
run --nope bb:1
run --rm=maybe bb:1
run -e
run -itz bb:1
run --name
start
load x
pull
pull a b
push
cp a
cp a b
cp a b c
nonsense
image nonsense
container ls -aq
container ps -aq
container list -aq
ps -aqf name=^b
rm nosuch
rm -f nosuch
rmi nosuch
rmi -f nosuch
tag nosuch x
tag bb:1 BAD
tag bb:1 a:b:c
commit nosuch
cp nosuch:/x .
cp - box
create --name !bad bb:1
create --name box bb:1
create --label= bb:1
create -e =x bb:1
create -w rel bb:1
create --pull sometimes bb:1
create --pull never nosuch
run --pull never nosuch
run --cidfile /proc/version bb:1
run BAD
create BAD
start nosuch
container rm nosuch
image rm nosuch
ps -n -1 -q
ps -f name
ps -a -f status=nosuch
ps -a -f exited=x
ps -a -f is-task=true -q
ps -a -f health=none --format {{.Names}}
ps -a -f network=none --format {{.Names}}
ps -a -f volume=nosuch -q
ps -a -f publish=80 -q
images -f reference=[ -q
images -q --no-trunc
images --no-trunc=true -q bb
image ls -q
image list -q
ps -a --all=true -n=-1 --no-trunc=false --size=false --format {{.Names}}
ps -aqf name=[bt][ow]
"#;

#[test]
fn command_lines_print_and_end_as_dockers() {
    let (Some(root), Some(busybox)) = (root(), tars::busybox()) else { return };
    let Some(dockerd) = Dockerd::start(root.path()) else { return };
    let tar = root.file("busybox.tar", &busybox);
    dockerd.docker(&["import", "-c", "LABEL a=1", "-c", "CMD [\"sh\"]", &tar, "bb:1"]);
    dockerd.docker(&["tag", "bb:1", "bb:2"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    dockerd.docker(&["import", "-m", "another", "-c", "CMD [\"sh\"]", &tar, "other"]);
    dockerd.docker(&["create", "--name", "box", "--network", "none", "bb:1"]);
    dockerd.docker(&["create", "--name", "twin", "--network", "none", "--label", "b=", "other"]);
    let lines = LINES.lines().filter(|line| !line.is_empty()).map(|line| {
        let words: Vec<String> = line.split(' ').map(|word| word.replace('~', " ")).collect();
        let theirs = Done::from(dockerd.output(&words.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_ne!(theirs.code, -1, "{line}: {theirs:?}");
        (line, words, theirs)
    });
    let lines: Vec<_> = lines.collect();
    // While dockerd runs, its root is read-only for others.
    drop(dockerd);
    let mut wrong = Vec::new();
    for (line, words, theirs) in lines {
        let ours = root.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        // Where a template fails, docker leaves an empty line.
        let same_output = ours.out == theirs.out || (theirs.code != 0 && ours.out.trim() == theirs.out.trim());
        if ours.code != theirs.code || !same_output {
            wrong.push(format!("{line}\n  docker: {theirs:?}\n  strata: {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// `image inspect --format json` of several objects is one array, not a line for each.
#[test]
fn inspect_format_json_gives_one_array() {
    let Some(root) = root_with_busybox() else { return };
    root.ok(&["tag", "bb", "again"]);
    let out = root.ok(&["image", "inspect", "--format", "json", "bb", "again"]);
    let values: Vec<serde_json::Value> = serde_json::from_str(&out).expect("a JSON array");
    assert_eq!(values.len(), 2, "{out}");
}

/// A label without a value is empty, whatever variable of that name the environment has. A variable of `--env-file` without a value is
/// copied from the environment, or left out if the environment has none.
#[test]
fn labels_without_a_value_are_empty_and_variables_are_copied() {
    let Some(root) = root_with_busybox() else { return };
    let file = root.file("env", b"PATH_OF_NOTHING\nGIVEN=1\nFROM_OUTSIDE\n");
    let output = root
        .command(&["create", "--name", "box", "--label", "FROM_OUTSIDE", "--env-file", &file, "bb", "sh"])
        .env("FROM_OUTSIDE", "x")
        .output()
        .expect("strata runs");
    assert!(output.status.success(), "{output:?}");
    let inspected = root.inspect("box");
    assert_eq!(inspected["Config"]["Labels"]["FROM_OUTSIDE"], "");
    let env: Vec<&str> =
        inspected["Config"]["Env"].as_array().into_iter().flatten().filter_map(|e| e.as_str()).collect();
    assert!(env.contains(&"GIVEN=1") && env.contains(&"FROM_OUTSIDE=x"), "{env:?}");
    assert!(!env.iter().any(|variable| variable.contains("NOTHING")), "{env:?}");
}
