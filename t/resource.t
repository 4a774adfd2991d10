# The resource of the spans that real servers send: what it says about them, and
# that it stays the same as long as the server does.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Collector;
use EdgespanTest::Httpd;
use EdgespanTest::Nginx;

my $c = EdgespanTest::Collector->new;
my $LOCATION = 'server { listen 127.0.0.1:%%PORT1%%; location / { return 200; } }';

sub server {
    my ($kind, %opt) = @_;
    my $more = delete $opt{more} // '';
    my $url = $c->url;
    return EdgespanTest::Nginx->new(%opt, http =>
        "otel_exporter { endpoint $url; interval 20ms; } otel_trace on; $more $LOCATION")
        if $kind eq 'nginx';
    return EdgespanTest::Httpd->new(%opt, http =>
        "OtelExporter $url interval=20ms\nOtelTrace On\n$more");
}

my $n = 0;

sub resource {
    my ($s) = @_;
    my $path = '/resource-' . ++$n;
    http_get($s->port, $path);
    my ($span) = $c->wait_spans(1, 10, attr => { 'url.path' => $path });
    return $span->{resource};
}

my %os = map { /^(\w+)="?(.*?)"?$/ ? ($1 => $2) : () } split /\n/, slurp('/etc/os-release') // '';
chomp(my $host = `uname -n`);
my $machine_id = slurp('/etc/machine-id') // '';
chomp $machine_id;

for my $kind (qw(nginx httpd)) {
    subtest $kind => sub {
        my $s = server($kind)->start;
        my $r = resource($s);
        my $exe = readlink '/proc/' . $s->master_pid . '/exe';
        my %want = (
            'service.name' => "unknown_service:$kind",
            'telemetry.sdk.name' => 'edgespan', 'telemetry.sdk.language' => 'c',
            'telemetry.distro.name' => 'edgespan',
            'webengine.name' => $kind, 'host.name' => $host, 'os.type' => 'linux',
            'process.pid' => $s->master_pid, 'process.executable.path' => $exe,
            'process.executable.name' => $exe =~ s{.*/}{}r,
            'process.owner' => scalar getpwuid($>),
        );
        $want{'os.description'} = $os{PRETTY_NAME} if $os{PRETTY_NAME};
        $want{'os.version'} = $os{VERSION_ID} if $os{VERSION_ID};
        $want{'host.id'} = $machine_id
            if $machine_id =~ /^[0-9a-f]{32}$/ && !$r->{'container.id'} && !$r->{'k8s.pod.uid'};
        is $r->{$_}, $want{$_}, $_ for sort keys %want;
        my $version = qx($s->{program} -v 2>&1);
        like $version, qr{/\Q$r->{'webengine.version'}\E\b}, 'webengine.version';
        like $r->{'service.instance.id'},
            qr/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
            'service.instance.id is a UUID of version 5';
        ok !exists $r->{'process.command_args'}, 'no arguments: they may hold secrets';

        $s->reload;
        is_deeply resource($s), $r, 'the same after a reload';
        $s->stop;
        $s->start;
        my $again = resource($s);
        is $again->{'service.instance.id'}, $r->{'service.instance.id'}, 'the instance outlives a restart';
        is $again->{'process.pid'}, $s->master_pid, 'the process does not';

        my $other = server($kind)->start;
        isnt resource($other)->{'service.instance.id'}, $r->{'service.instance.id'},
            'another server of the same host is another instance';
        $other->{name} = $s->{name} = "$kind: no alerts";
        $_->finish for $s, $other;
    };

    subtest "$kind: who wins" => sub {
        my $attr = $kind eq 'nginx' ? 'otel_resource_attr host.name mine;'
            : 'OtelResourceAttr host.name mine';
        my $s = server($kind, more => $attr, env => {
            OTEL_RESOURCE_ATTRIBUTES => 'host.name=env,os.type=env,service.instance.id=a%2C1',
            KUBERNETES_SERVICE_HOST => '10.0.0.1', POD_NAME => 'edge-1',
            POD_NAMESPACE => 'shop' })->start;
        my $r = resource($s);
        is $r->{'host.name'}, 'mine', 'a directive before a variable';
        is $r->{'os.type'}, 'env', 'a variable before what was found out';
        is $r->{'service.instance.id'}, 'a,1', 'even the instance';
        is $r->{'k8s.pod.name'}, 'edge-1', 'a pod tells its name';
        is $r->{'k8s.namespace.name'}, 'shop', 'and its namespace';
        $s->{name} = "$kind: no alerts";
        $s->finish;
    };
}

subtest 'nginx: the process of a daemon' => sub {
    my $s = server('nginx', daemon => 1)->start;
    is resource($s)->{'process.pid'}, $s->master_pid, 'is the master, not what started it';
    $s->reload;
    is resource($s)->{'process.pid'}, $s->master_pid, 'after a reload, too';
    $s->{name} = 'daemon: no alerts';
    $s->finish;
};

subtest 'nginx: master_process off' => sub {
    my $s = server('nginx', master => 0)->start;
    is resource($s)->{'process.pid'}, $s->{pid}, 'it is the one that there is';
    $s->{name} = 'master_process off: no alerts';
    $s->finish;
};

done_testing;
