# Requests that go more than one way to an upstream: redirects and error pages,
# also within subrequests. Each way ("leg") has CLIENT spans of its own, and no
# upstream may see a parent that nobody exports.

use strict;
use warnings;

use IO::Socket::INET;
use POSIX ();
use Test::More;

use EdgespanTest;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

sub respond {
    my ($bytes) = @_;
    my ($method, $path) = $bytes =~ m{\A(\S+) (\S+)};
    return [ delay => $path =~ /slow/ ? 0.1 : 0 ], 'reset'
        if $path =~ m{/reset};
    my ($included) = $path =~ m{^/page(/\S+)};
    my @head = !$included && $path =~ m{/to(/\S+)} ? "X-Accel-Redirect: $1" : ();
    my $text = $method eq 'HEAD' ? ''
        : $included ? qq{<!--# include virtual="$included" -->} : 'ok';
    push @head, 'Content-Length: ' . ($method eq 'HEAD' ? 2 : length $text);
    return [ delay => $path =~ /slow/ ? 0.1 : 0 ],
        join("\r\n", 'HTTP/1.1 200 OK', @head, '', $text);
}

my %u = map { $_ => EdgespanTest::Upstream->new(respond => \&respond) } 1 .. 4;

my $broken = EdgespanTest::Upstream->new(respond => sub { 'reset' });

# A name server: "two.test" has two addresses, on one of which nobody listens;
# other names do not exist.
my $dns = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'udp') or die $!;
my $dns_pid = fork // die "fork: $!";
if (!$dns_pid) {
    while (defined $dns->recv(my $query, 512)) {
        my @addresses = $query =~ /\x03two\x04test\0/ ? ("\x7f\0\0\x02", "\x7f\0\0\x01") : ();
        $dns->send(substr($query, 0, 2) . pack('n5', @addresses ? 0x8180 : 0x8183,
            1, scalar @addresses, 0, 0) . substr($query, 12) . join '',
            map { pack('n3Nn', 0xc00c, 1, 1, 60, 4) . $_ } @addresses);
    }
    POSIX::_exit(0);
}
END { if ($dns_pid) { local $?; kill KILL => $dns_pid; waitpid $dns_pid, 0 } }

my $n = EdgespanTest::NginxTraced->new(
    vars => { (map {("UP$_" => $u{$_}->address)} 1 .. 4),
        BROKEN => $broken->address, DNS => $dns->sockport },
    files => { 'html/f/page' => 'file' },
    http => <<'CONF');
proxy_http_version 1.1;
log_format ids '$request_uri $otel_upstream_span_id';
access_log %%PREFIX%%/ids.log ids;
upstream twice { server %%BROKEN%% max_fails=0; server %%UP1%% backup; }
upstream again { server %%BROKEN%% max_fails=0; server %%UP2%% backup; }
# nothing else names these two, so nginx knows no upstream{} of them
map $uri $run1 { default %%UP3%%; }
map $uri $run2 { default %%UP4%%; }
resolver 127.0.0.1:%%DNS%% ipv6=off;
server {
    listen 127.0.0.1:%%PORT2%%;
    otel_trace off;
    access_log off;
    location / { return 200 "$http_traceparent"; }
}
server {
    listen 127.0.0.1:%%PORT1%%;
    location / { proxy_pass http://%%UP1%%; }
    location /second/ { internal; proxy_pass http://%%UP2%%/two/; }
    location /untraced/ { internal; otel_trace off; proxy_pass http://%%UP2%%; }
    location /nospan/ { internal; otel_upstream_span off; proxy_pass http://%%UP2%%; }
    location /f/ { internal; }
    location /fallback/ { error_page 502 = @other; proxy_pass http://%%UP1%%/reset/; }
    location /errors/ { error_page 502 /second/error; proxy_pass http://%%UP1%%/reset/; }
    location @other { proxy_pass http://%%UP2%%; }
    location /try/ { try_files $uri /second/x; }
    location /runtime/ { set $to %%UP3%%; error_page 502 = @runtime; proxy_pass http://$to/reset/; }
    location @runtime { set $to %%UP4%%; proxy_pass http://$to; }
    location /read/ { otel_trace_context extract; set $to %%UP3%%; proxy_pass http://$to; }
    location /twice/ { proxy_pass http://twice; }
    location /again/ { internal; proxy_pass http://again; }
    location /run1/ { proxy_pass http://$run1; }
    location /run2/ { internal; proxy_pass http://$run2; }
    location /read1/ { otel_trace_context extract; proxy_pass http://$run1; }
    location /read2/ { internal; otel_trace_context extract; proxy_pass http://$run2; }
    location /page/ { ssi on; ssi_types *; proxy_pass http://%%UP1%%; }
    location /ignore/ { otel_trace_context ignore; proxy_pass http://%%UP2%%; }
    location /named/ { proxy_pass http://$arg_name:%%PORT2%%/; proxy_connect_timeout 5s; }
}
CONF
$n->start;
my $port = $n->port(1);

# Makes a request; returns what came to the upstreams during it, in their order,
# its spans by kind, and the record.
my %seen = map { $_ => 0 } keys %u;
sub request {
    my ($path, $spans, %opt) = @_;
    my ($answer, $record) = $n->recorded(sub { http_get($port, $path, %opt) });
    my @spans = eval { $n->trace($record, $spans, 10) };
    @spans = $n->collector->spans(trace_id => $record->{trace}) unless @spans;
    my @came;
    for my $i (sort keys %u) {
        my @all = $u{$i}->requests;
        push @came, @all[ $seen{$i} .. $#all ];
        $seen{$i} = @all;
    }
    my ($server) = grep { $_->{kind} eq 'SERVER' } @spans;
    my @client = sort { $a->{start} <=> $b->{start} }
        grep { $_->{kind} eq 'CLIENT' } @spans;
    is @spans, $spans, "$path: $spans spans" or diag explain \@spans;
    my ($internal) = grep { $_->{kind} eq 'INTERNAL' } @spans;
    for my $client (@client) {
        my $inner = $internal && $client->{start} >= $internal->{start};
        is $client->{parent_span_id},
            ($inner ? $internal : $server)->{span_id}, 'below the right one';
        cmp_ok $client->{start}, '>=', $server->{start}, 'begins later';
        cmp_ok $client->{end}, '<=', $server->{end}, 'ends earlier';
    }
    return ({ came => \@came, server => $server, client => \@client,
        record => $record, answer => $answer });
}

sub parent_id {
    my @tp = EdgespanTest::Upstream::header_values($_[0], 'traceparent');
    is @tp, 1, 'one traceparent' or return;
    return (split /-/, $tp[0])[2];
}

# Every parent that an upstream saw is a span that was exported.
sub no_orphans {
    my ($r) = @_;
    my %known = map { $_->{span_id} => 1 } $r->{server}, @{ $r->{client} };
    ok $known{ parent_id($_) }, 'the parent that was sent is exported'
        for @{ $r->{came} };
    return;
}

sub same_ids {
    my ($r) = @_;
    is join(' ', sort map { $_->{span_id} } @{ $r->{client} }),
        join(' ', sort map { parent_id($_) } @{ $r->{came} }),
        'each upstream saw the id of its CLIENT span';
    return;
}

sub urls { return [ map { $_->{attrs}{'url.full'} } @{ $_[0]{client} } ] }
sub url { return "http://$u{$_[0]}{addr}$_[1]" }
$u{$_}{addr} = $u{$_}->address for 1, 2;

subtest 'X-Accel-Redirect to another upstream: the separator has no peer' => sub {
    my $r = request('/to/second/x', 3);
    is @{ $r->{came} }, 2, 'two upstreams';
    same_ids($r);
    is_deeply urls($r), [ url(1, '/to/second/x'), url(2, '/two/x') ],
        'each with its own url.full';
    is_deeply [ map { $_->{attrs}{'network.peer.port'} } @{ $r->{client} } ],
        [ map { $u{$_}->port } 1, 2 ], 'peers';
    is_deeply [ map { $_->{attrs}{'server.port'} } @{ $r->{client} } ],
        [ map { $u{$_}->port } 1, 2 ], 'server.port';
    is_deeply [ map { scalar @{ $_->{events} } } @{ $r->{client} } ], [ 0, 0 ],
        'the separator is no try';
    my ($a, $b) = @{ $r->{client} };
    cmp_ok $a->{end}, '<=', $b->{start}, 'one after the other';
};

subtest 'three in a row' => sub {
    my $r = request('/to/second/to/second/x', 4);
    same_ids($r);
};

subtest 'to a place with otel_trace off: never off again' => sub {
    my $r = request('/to/untraced/x', 3);
    same_ids($r);
};

subtest 'to a place with otel_upstream_span off' => sub {
    my $r = request('/to/nospan/x', 2);
    no_orphans($r);
    is parent_id($r->{came}[1]), $r->{server}{span_id},
        'the SERVER span is the parent';
};

subtest 'to a file' => sub {
    my $r = request('/to/f/page', 2);
    is $r->{answer}{body}, 'file', 'served';
    same_ids($r);
    is_deeply urls($r), [ url(1, '/to/f/page') ], 'url.full';
};

subtest 'POST, and X-Accel-Redirect makes it GET' => sub {
    my $r = request('/to/second/x', 3, method => 'POST', body => 'x');
    is_deeply [ map { $_->{attrs}{'http.request.method'} } @{ $r->{client} } ],
        [ map {/\A(\S+)/} @{ $r->{came} } ], 'the methods that were sent';
};

for my $case ([ 'error_page to @named', '/fallback/x', '/fallback/x' ],
    [ 'error_page to a URI', '/errors/x', '/two/error' ]) {
    my ($what, $path, $uri) = @$case;
    subtest "$what after a failure" => sub {
        my $r = request($path, 3);
        same_ids($r);
        is_deeply urls($r), [ url(1, '/reset/x'), url(2, $uri) ], 'url.full';
        is_deeply [ map { $_->{status}{code} } @{ $r->{client} } ],
            [ 'ERROR', 'UNSET' ], 'the first failed';
        my $code = $r->{record}{status};
        is $r->{server}{attrs}{'http.response.status_code'}, $code,
            "status $code";
    };
}

subtest 'the same with run-time resolution: nginx\'s own times' => sub {
    my $r = request('/runtime/slow', 3);
    same_ids($r);
    is_deeply [ map { $_->{attrs}{'network.peer.port'} } @{ $r->{client} } ],
        [ map { $u{$_}->port } 3, 4 ], 'peers, in order';
    cmp_ok $r->{client}[0]{end}, '<=', $r->{client}[1]{start},
        'one after the other';
    is_deeply [ map { $_->{attrs}{'http.request.resend_count'} }
        @{ $r->{client} } ], [ undef, undef ], 'no resends';
};

subtest 'retries in both of two legs: the count begins anew' => sub {
    my $before = $broken->requests;
    my $r = request('/twice/to/again/x', 5);
    push @{ $r->{came} }, ($broken->requests)[ $before, $before + 1 ];
    same_ids($r);
    is_deeply [ map { $_->{attrs}{'http.request.resend_count'} }
        @{ $r->{client} } ], [ undef, 1, undef, 1 ], 'resend_count';
    is_deeply [ map { $_->{attrs}{'network.peer.port'} } @{ $r->{client} } ],
        [ map { $_->port } $broken, $u{1}, $broken, $u{2} ], 'peers';
};

for my $how ('run', 'read') {
    subtest "X-Accel-Redirect between upstreams resolved at run time: $how" => sub {
        my $r = request("/${how}1/to/${how}2/slow", 3);
        same_ids($r) if $how eq 'run';
        is_deeply urls($r), [ 'http://' . $u{3}->address . "/${how}1/to/${how}2/slow",
            'http://' . $u{4}->address . "/${how}2/slow" ], 'each its own url.full';
        my ($one, $two) = @{ $r->{client} };
        cmp_ok $one->{end}, '<=', $two->{start}, 'one after the other';
        cmp_ok $two->{end} - $two->{start}, '>=', 0.09e9, 'the slow one';
    };
}

subtest 'legs within a subrequest' => sub {
    my $r = request('/page/to/second/x', 5);
    is $r->{answer}{body}, 'ok', 'included';
    same_ids($r);
    is_deeply urls($r), [ url(1, '/page/to/second/x'), url(1, '/to/second/x'),
        url(2, '/two/x') ], 'url.full';
};

subtest 'a subrequest that injects nothing does not send its parent\'s id' => sub {
    my $r = request('/page/ignore/x', 4);
    same_ids($r);
};

subtest 'a name that is resolved at run time' => sub {
    my ($answer, $record) = $n->recorded(
        sub { http_get($port, '/named/x?name=two.test') });
    my ($client) = grep { $_->{kind} eq 'CLIENT' } $n->trace($record, 2);
    is +(split /-/, $answer->{body})[2], $client->{span_id}, 'its id came';
    is $client->{attrs}{'server.address'}, 'two.test', 'server.address';
    is $client->{attrs}{'network.peer.address'}, '127.0.0.1', 'peer';
    # nginx begins with either of the two.
    my @tries = map { $_->{attrs}{'error.type'} } @{ $client->{events} };
    is_deeply \@tries, @tries ? [ 'connection_failed', undef ] : [],
        'the tries share a span';

    (undef, $record) = $n->recorded(
        sub { http_get($port, '/named/x?name=no.test') });
    $n->server_span($record);
    is scalar(my @all = $n->trace($record)), 1, 'no such name: nobody was tried';
};

subtest 'try_files' => sub {
    same_ids(request('/try/x', 2));
};

subtest '$otel_upstream_span_id in the access log is the id of the span' => sub {
    my $logged = sub {
        my ($path) = @_;
        return (slurp($n->prefix . '/ids.log') =~ /^\Q$path\E (\S+)$/mg)[-1];
    };
    my $r = request('/x/logged', 2);
    is $logged->('/x/logged'), $r->{client}[0]{span_id}, 'proxied';
    $r = request('/read/x', 2);
    is $logged->('/read/x'), $r->{client}[0]{span_id},
        'resolved at run time, nothing injected';
};

$n->lint;
$n->finish;
done_testing;
