//! `--format` on a live dockerd's root: each template gives what the `docker` program gives, and fails where it fails.

mod common;

use common::{root, tars};
use strata_testkit::Dockerd;

/// Templates for `inspect` of the container.
const CONTAINER: &[&str] = &[
    "{{.ID}} {{.Name}} {{.Path}} {{.Args}} {{.RestartCount}} {{.Driver}} {{.Platform}}",
    "{{.Id}}",
    "{{.ID}}{{.Id}}",
    "{{.Created}}",
    "{{.Image}}",
    "{{.State.Status}} {{.State.Running}} {{.State.Pid}} {{.State.ExitCode}} {{.State.Error}}",
    "{{.State.Health}}",
    "{{if .State.Health}}{{.State.Health.Status}}{{end}}none",
    "{{.State.Health.Status}}",
    "{{with .State.Health}}{{.Status}}{{else}}no health{{end}}",
    "{{.Config.Env}}",
    "{{range .Config.Env}}{{println .}}{{end}}",
    "{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{end}}",
    "{{.Config.Cmd}} {{json .Config.Cmd}} {{.Config.Entrypoint}} {{json .Config.Entrypoint}}",
    "{{.Config.ExposedPorts}} {{json .Config.ExposedPorts}} {{len .Config.ExposedPorts}}",
    "{{.Config.Volumes}} {{json .Config.Volumes}}",
    "{{range $k, $v := .Config.Volumes}}{{$k}}{{end}}none",
    "{{.Config.Labels}} {{json .Config.Labels}}",
    "{{index .Config.Labels \"a\"}} {{index .Config.Labels \"nosuch\"}}|",
    "{{.Config.Labels.a}} {{.Config.Labels.nosuch}}",
    "{{.Config.StopSignal}}|{{.Config.StopTimeout}}|{{.Config.Shell}}|{{.Config.OnBuild}}|{{.Config.Healthcheck}}",
    "{{.Config.Tty}} {{.Config.OpenStdin}} {{.Config.User}}|{{.Config.WorkingDir}}|{{.Config.Image}}",
    "{{.Config.NoSuch}}",
    "{{.NoSuch}}",
    "{{.State.NoSuch}}",
    "{{.HostConfig.Binds}} {{json .HostConfig.Binds}}",
    "{{.HostConfig.NanoCPUs}} {{.HostConfig.Memory}} {{.HostConfig.ShmSize}} {{.HostConfig.CPUShares}}",
    "{{.HostConfig.NanoCpus}}",
    "{{.HostConfig.PidsLimit}} {{json .HostConfig.PidsLimit}} {{.HostConfig.OomKillDisable}} {{.HostConfig.Init}}",
    "{{.HostConfig.CapAdd}} {{json .HostConfig.CapAdd}} {{.HostConfig.DNS}} {{json .HostConfig.DNS}}",
    "{{.HostConfig.Tmpfs}} {{len .HostConfig.Tmpfs}} {{json .HostConfig.Tmpfs}} {{.HostConfig.Sysctls}}",
    "{{.HostConfig.LogConfig.Type}} {{.HostConfig.LogConfig.Config}} {{.HostConfig.LogConfig}}",
    "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}} {{.HostConfig.RestartPolicy}}",
    "{{.HostConfig.PortBindings}} {{json .HostConfig.PortBindings}} {{.HostConfig.NetworkMode}}",
    "{{.HostConfig.MaskedPaths}}",
    "{{json .HostConfig.RestartPolicy}} {{json .HostConfig.LogConfig}}",
    "{{.HostConfig.Privileged}} {{not .HostConfig.Privileged}} {{and .HostConfig.Privileged .ID}}",
    "{{.GraphDriver.Name}} {{range $k, $v := .GraphDriver.Data}}{{$k}} {{end}}",
    "{{.Mounts}} {{json .Mounts}} {{len .Mounts}}",
    "{{range .Mounts}}{{.Source}}{{else}}no mounts{{end}}",
    "{{.NetworkSettings.IPAddress}}|{{.NetworkSettings.Ports}}|{{.NetworkSettings.SandboxID}}|",
    "{{range $name, $net := .NetworkSettings.Networks}}{{$name}} {{$net.IPAddress}}|{{$net.Aliases}}{{end}}",
    "{{json .NetworkSettings.Ports}}",
    "{{.SizeRw}} {{.SizeRootFs}} {{.ExecIDs}} {{.AppArmorProfile}}|{{.MountLabel}}|",
    "{{.LogPath}}|{{.HostsPath}}|{{.ResolvConfPath}}",
    "{{slice .ID 0 12}} {{len .ID}} {{truncate .ID 5}} {{upper .Name}} {{title .Path}} {{pad .Path 2 3}}|",
    "{{printf \"%s|%10s|%-10s|%q|%d|%v|%t\" .Path .Path .Path .Path .RestartCount .State.ExitCode .State.Running}}",
    "{{join .Config.Env \",\"}} {{join .Args \" \"}}",
    "{{range split .Path \"/\"}}<{{.}}>{{end}}",
    "{{index .Config.Env 0}} {{index .Config.Cmd 1}}",
    "{{index .Config.Env 99}}",
    "{{index .Config.Env \"x\"}}",
    "{{eq .Driver \"overlay2\"}} {{ne .RestartCount 0}} {{lt .RestartCount 1}} {{ge .State.Pid 0}}",
    "{{if and (eq .Driver \"overlay2\") (not .State.Running)}}stopped{{else if .State.Running}}up{{end}}",
    "{{define \"x\"}}<{{.}}>{{end}}{{template \"x\" .Path}}",
    "{{block \"y\" .State}}{{.Status}}{{end}}",
    "{{$x := .Path}}{{with .State}}{{$x}}{{$.Driver}}{{end}}",
    "{{range .Config.Env}}{{if eq . \"B=2\"}}{{break}}{{end}}{{.}} {{end}}",
    "{{range .Config.Env}}{{if eq . \"B=2\"}}{{continue}}{{end}}{{.}} {{end}}",
    "a {{- .Path -}} b {{/* nothing */}}c",
    "{{html \"<a&b>\"}} {{js \"it's\"}} {{urlquery \"a b&c\"}}",
    "{{print .Path .RestartCount .RestartCount}} {{println .Path 1}}",
    "{{.Path | upper | printf \"%s!\"}}",
    "{{call .Path}}",
    "{{nosuch .Path}}",
    "{{.Path",
    "{{if .Path}}",
    "{{end}}",
    "{{template \"nosuch\"}}",
    "plain text",
    "{{\"quoted\"}} {{`raw`}} {{1}} {{1.5}} {{true}} {{'a'}}",
    "json .",
];

/// Templates for `inspect` of the image.
const IMAGE: &[&str] = &[
    "{{.ID}} {{.Id}}",
    "{{.ID}} {{.RepoTags}} {{.RepoDigests}} {{.Parent}}|{{.Comment}}",
    "{{.Created}} {{.Author}}|{{.Architecture}} {{.Os}} {{.Size}} {{.Variant}}|{{.OsVersion}}",
    "{{.Config.Env}} {{.Config.Cmd}} {{.Config.Entrypoint}} {{.Config.WorkingDir}}|{{.Config.User}}|",
    "{{.Config.ExposedPorts}} {{.Config.Volumes}} {{.Config.Labels}} {{.Config.StopSignal}}|",
    "{{.RootFS.Type}} {{len .RootFS.Layers}} {{index .RootFS.Layers 0}}",
    "{{range .RootFS.Layers}}{{.}}{{end}}",
    "{{json .RootFS}} {{json .RepoTags}} {{json .RepoDigests}}",
    "{{.GraphDriver.Name}} {{json .GraphDriver.Data}}",
    "{{.NoSuch}}",
    "{{.Config.NoSuch}}",
];

/// Templates for `ps -a`.
const PS: &[&str] = &[
    "{{.ID}} {{.Names}} {{.Image}} {{.Command}} {{.Status}} {{.State}}",
    "{{.Label \"a\"}}|{{.Label \"nosuch\"}}|{{.Labels}}",
    "table {{.Names}}\t{{.Label \"com.example.my-label\"}}",
    "table {{.ID}}\t{{.Image}}\t{{.Command}}",
    "{{.Ports}}|{{.Mounts}}|{{.LocalVolumes}}|{{.Networks}}|{{.Size}}",
    "{{.NoSuch}}",
    "{{upper .Names}} {{len .ID}} {{json .Names}}",
    "{{if eq .State \"created\"}}new{{end}}",
];

/// Templates for `images`.
const IMAGES: &[&str] = &[
    "{{.ID}} {{.Repository}} {{.Tag}} {{.Digest}} {{.Size}}",
    "table {{.Repository}}\t{{.Tag}}",
    "{{.Repository}}:{{.Tag}}",
    "{{.CreatedAt}}",
    "{{json .Repository}}",
    "{{.NoSuch}}",
];

#[test]
fn every_template_gives_what_docker_gives() {
    let (Some(root), Some(busybox)) = (root(), tars::busybox()) else { return };
    let Some(dockerd) = Dockerd::start(root.path()) else { return };
    let tar = root.file("busybox.tar", &busybox);
    let changes = ["ENV A=1", "ENV B=2", "CMD [\"sh\",\"-c\",\"true\"]", "LABEL a=1 com.example.my-label=x"];
    let changes: Vec<&str> = changes.iter().flat_map(|change| ["-c", change]).collect();
    dockerd.docker(&[&["import"], &changes[..], &[&tar, "bb:1"]].concat());
    dockerd.docker(&["create", "--name", "box", "--network", "none", "bb:1"]);
    let mut wrong = Vec::new();
    let lines = (CONTAINER.iter().map(|text| vec!["inspect", "-f", text, "box"]))
        .chain(IMAGE.iter().map(|text| vec!["inspect", "-f", text, "bb:1"]))
        .chain(PS.iter().map(|text| vec!["ps", "-a", "--format", text]))
        .chain(IMAGES.iter().map(|text| vec!["images", "--format", text]));
    let mut count = 0;
    for line in lines {
        count += 1;
        let theirs = dockerd.output(&line);
        let ours = root.run(&line);
        let (out, status) = (String::from_utf8_lossy(&theirs.stdout), theirs.status.code().unwrap_or(-1));
        // What fails half-way may have written a beginning.
        let differs = ours.code != status || (status == 0 && ours.out != out);
        if differs {
            let said = String::from_utf8_lossy(&theirs.stderr);
            wrong.push(format!(
                "{line:?}\n  docker {status}: {out:?} {said:?}\n  strata {}: {:?} {:?}",
                ours.code, ours.out, ours.err
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}
