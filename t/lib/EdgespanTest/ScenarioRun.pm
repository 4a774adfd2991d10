package EdgespanTest::ScenarioRun;

# Runs the scenarios of a file against one server: all requests first, then, when
# the spans are there and the server has stopped, all comparisons.

use strict;
use warnings;

use IO::Socket::IP;
use Test::More ();

use EdgespanTest;
use EdgespanTest::Certificates;
use EdgespanTest::Collector;
use EdgespanTest::Httpd;
use EdgespanTest::Nginx;
use EdgespanTest::Otlp;
use EdgespanTest::ScenarioClient;
use EdgespanTest::ScenarioUpstreams;
use EdgespanTest::Tree;

# --- The servers ----------------------------------------------------------------

my $IPV6 = IO::Socket::IP->new(LocalHost => '::1', Listen => 1) ? 1 : 0;

sub _nginx {
    my ($http, $server, $url) = @_;
    return EdgespanTest::Nginx->new(name => 'nothing bad in the log of nginx', allow => qr/no live upstreams/,
        http => <<"END");
    otel_exporter { endpoint $url; interval 20ms; header X-Server nginx; }
    otel_service_name scenario;
    otel_resource_attr deployment.environment.name test;
    otel_trace on;
$http
    server {
        listen 127.0.0.1:%%PORT1%%;
        listen 127.0.0.1:%%PORT2%% http2;
        @{[ $IPV6 ? 'listen [::1]:%%PORT3%%;' : '' ]}
        root %%PREFIX%%/html;
$server
    }
END
}

sub _httpd {
    my ($http, $url) = @_;
    return EdgespanTest::Httpd->new(name => 'nothing bad in the log of httpd', http2 => 1, workers => 1, threads => 16,
        extra => [qw(proxy_scgi proxy_uwsgi proxy_wstunnel proxy_connect proxy_http2 cache cache_disk include remoteip
            reqtimeout ssl socache_shmcb)],
        http => <<"END");
    Listen 127.0.0.1:%%PORT1%%
    @{[ $IPV6 ? 'Listen [::1]:%%PORT3%%' : '' ]}
    OtelExporter $url interval=20ms header=X-Server:httpd
    OtelServiceName scenario
    OtelResourceAttr deployment.environment.name test
    OtelTrace On
$http
END
}

sub _configured {
    my ($kind, $file, $url) = @_;
    my $join = sub {
        my ($section) = @_;
        return join "\n", map { $_ // () } map { $_->{config}{$section} } $file,
            grep { !$_->{only} || $_->{only} eq $kind } @{ $file->{scenarios} };
    };
    return $kind eq 'nginx' ? _nginx($join->('nginx http'), $join->('nginx'), $url)
        : _httpd($join->('httpd'), $url);
}

# What the servers of all files have around them.
sub new {
    my ($class) = @_;
    my $certificates = EdgespanTest::Certificates->new;
    $certificates->authority('server');
    return bless { collector => EdgespanTest::Collector->new, certificates => $certificates,
        upstreams => EdgespanTest::ScenarioUpstreams->new }, $class;
}

# Runs the scenarios of a file; returns how many they were.
sub run {
    my ($self, $kind, $file) = @_;
    my @scenarios = grep { !$_->{only} || $_->{only} eq $kind } @{ $file->{scenarios} };
    my @possible = grep { $IPV6 || !grep { grep { $_ eq 'over IPv6' } @{ $_->{how} } } @{ $_->{requests}{$kind} } }
        @scenarios;
    Test::More::diag("no scenarios over IPv6: this machine has none") if @possible < @scenarios;
    @scenarios = @possible;
    my $collector = $self->{collector};
    my $server = _configured($kind, $file, $collector->url);
    $server->{vars} = { %{ $self->{upstreams}->vars }, CERTIFICATE => $self->{certificates}->file('server.pem'),
        KEY => $self->{certificates}->file('server.key') };
    $server->write_file("html/$_->[0]", $_->[1])
        for [ 'index.html', "index\n" ], [ 'error.html', "sorry\n" ], [ 'key', 'x' x 32 ],
            [ 'protected/index.html', "protected\n" ],
            map { [ "$_.shtml", qq{<!--#include virtual="/$_/one" --> <!--#include virtual="/$_/two" -->\n} ] } qw(part quiet);
    my ($before, $requests) = (scalar(() = $collector->spans), scalar(() = $collector->requests));
    $server->start;
    my @done = map { $self->_request($kind, $_, $server) } @scenarios;
    my $expected = 0;
    $expected += @{ $_->{nodes}{$kind} } for @scenarios;
    # What is missing then is told of each scenario.
    eval { $collector->wait_spans($before + $expected, 10) };
    $server->finish;
    my @spans = $collector->spans;
    splice @spans, 0, $before;
    Test::More::is(join("\n", EdgespanTest::Otlp::lint(\@spans), EdgespanTest::Otlp::lint_traces(\@spans, 'complete')), '',
        "$kind: $file->{name}: " . @spans . ' spans keep the rules');
    Test::More::is(join("\n", map {"$_->{span_id} '$_->{name}'"} grep { $_->{kind} eq 'SERVER' && $_->{end} > $_->{start}
        && !grep {/^edgespan\.time\./} keys %{ $_->{attrs} } } @spans), '', 'and say what their time went to');
    Test::More::is(scalar(grep { $_->{resource}{'service.name'} ne 'scenario'
        || $_->{resource}{'deployment.environment.name'} ne 'test' } @spans), 0, 'and have the resource');
    my @requests = $collector->requests;
    Test::More::is(scalar(grep { (header($_, 'X-Server') // '') ne $kind } splice @requests, $requests), 0,
        'that came with the header');
    Test::More::subtest("$kind: $file->{name}.txt:$scenarios[$_]{line}: $scenarios[$_]{title}" => do {
        my $i = $_;
        sub { _check($kind, $scenarios[$i], $done[$i], \@spans) };
    }) for 0 .. $#scenarios;
    return scalar @scenarios;
}

# Random, so that the spans of one scenario are nobody else's.
sub _caller {
    my $hex = sub { join '', map { sprintf '%02x', 1 + int rand 255 } 1 .. $_[0] };
    return { 'caller.trace' => $hex->(16), 'caller.span' => $hex->(8), 'caller.other' => $hex->(8) };
}

sub _fill {
    my ($text, $known, $server) = @_;
    $text =~ s/\{([a-z][a-z0-9_.]*)\}/$known->{$1} \/\/ "{$1}"/ge;
    return $server->expand($text);
}

sub _request {
    my ($self, $kind, $scenario, $server) = @_;
    my $known = _caller();
    my $upstreams = $self->{upstreams};
    my $mark = $upstreams->mark;
    my %port = (http2 => $kind eq 'nginx' ? 2 : 1, ipv6 => 3, tls => 7);
    my @requests = map { { %$_, head => _fill($_->{head}, $known, $server),
        lines => [ map { _fill($_, $known, $server) } @{ $_->{lines} // [] } ] } } @{ $scenario->{requests}{$kind} };
    my ($ports, $answers) = EdgespanTest::ScenarioClient::send_all(\@requests,
        sub { $server->port($port{ $_[0] } // $_[0]) }, sub { $upstreams->wait_for_more($mark, $_[0], 1) });
    # Those of a subrequest that nobody waited for may still be on their way.
    my %count;
    $count{ _name($_->{head}) }++ for @{ $scenario->{received}{$kind} // [] };
    eval { $upstreams->wait_for_more($mark, $_, $count{$_}) } for keys %count;
    return { known => $known, server => $server, answers => $answers, received => $upstreams->since($mark),
        ports => { map { $_ => 1 } @$ports } };
}

# Lines of what upstreams got begin with the name of another than "upstream".
sub _name { return $_[0] =~ /^([a-z]\w*) / ? $1 : 'upstream' }

sub _check {
    my ($kind, $scenario, $done, $all) = @_;
    my $port = sub { $_[0]{attrs}{'network.peer.port'} // $_[0]{attrs}{'net.sock.peer.port'} // '' };
    my %trace = map { $_->{trace_id} => 1 }
        grep { $_->{kind} eq 'SERVER' && $done->{ports}{ $port->($_) } } @$all;
    my @spans = grep { $trace{ $_->{trace_id} } } @$all;
    my %known = %{ $done->{known} };
    my ($first) = sort { $a->{start} <=> $b->{start} } @spans;
    $known{trace} = $first->{trace_id} if $first;
    my $fill = sub { _fill($_[0], \%known, $done->{server}) };

    my %labels;
    my ($expected, $got) = EdgespanTest::Tree::compare($scenario->{nodes}{$kind}, \@spans, \%labels, sub {
        $known{$_} = $labels{$_}{span_id} for keys %labels;
        return $fill->($_[0]);
    });
    Test::More::is($got, $expected, 'the spans') or Test::More::diag(EdgespanTest::Tree::tree(\@spans, 1));
    Test::More::note(EdgespanTest::Tree::tree(\@spans));
    _check_answer($_, $scenario->{answers}{$kind}[$_], $done->{answers}[$_], $fill)
        for 0 .. $#{ $scenario->{answers}{$kind} };
    _check_received($scenario->{received}{$kind}, $done->{received}, $fill) if $scenario->{received}{$kind};
    return;
}

# "name: value", "name ~ regex" or "name absent" of a list of values.
sub _check_line {
    my ($line, $values, $what) = @_;
    my ($name, $how, $want) = $line =~ /^([\w-]+)(:| ~| absent)\s*(.*)$/ or die "what is '$line'?\n";
    my $have = join ' | ', $values->($name);
    return Test::More::is($have, '', "$what: $line") if $how eq ' absent';
    return Test::More::like($have, qr/$want/, "$what: $name") if $how eq ' ~';
    return Test::More::is($have, $want, "$what: $name");
}

sub _check_answer {
    my ($i, $expected, $answer, $fill) = @_;
    my $what = 'answer ' . ($i + 1);
    Test::More::is($answer->{status} || 'none', $expected->{head}, $what);
    _check_line($fill->($_), sub { lc $_[0] eq 'body' ? $answer->{body} =~ s/\n\z//r : header($answer, $_[0]) }, $what)
        for @{ $expected->{lines} // [] };
    return;
}

sub _check_received {
    my ($expected, $received, $fill) = @_;
    my %have = map { $_ => [ @{ $received->{$_} } ] } keys %$received;
    for my $request (@$expected) {
        my $head = $fill->($request->{head});
        my $name = _name($head);
        $head =~ s/^$name //;
        # Those of subrequests are under way at the same time.
        my ($at) = grep { $have{$name}[$_]{line} eq $head } 0 .. $#{ $have{$name} };
        my $got = splice @{ $have{$name} }, $at // 0, 1;
        Test::More::is($got ? $got->{line} : 'nothing', $head, "what $name got");
        next unless $got;
        _check_line($fill->($_), sub { @{ $got->{headers}{ lc $_[0] } // [] } }, $name)
            for @{ $request->{lines} // [] };
    }
    my @more = map { my $name = $_; map {"$name $_->{line}"} @{ $have{$name} } } sort keys %have;
    Test::More::is(join("\n", @more), '', 'and no more');
    return;
}

1;
