# Requests that go more than one way to an upstream: redirects, caches,
# subrequests. Each way ("leg") is a CLIENT span of its own, and no upstream may
# see a parent that nobody exports.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

my $body = join '', map { $_ % 10 } 1 .. 250;

sub respond {
    my ($bytes) = @_;
    my ($method, $path) = $bytes =~ m{\A(\S+) (\S+)};
    return [ delay => $path =~ /slow/ ? 0.1 : 0 ], 'reset'
        if $path =~ m{/reset} || -e "$main::dir/down";
    my @head = $path =~ m{/to(/\S+)} ? "X-Accel-Redirect: $1" : ();
    my $text = $method eq 'HEAD' ? '' : 'ok';
    my $status = '200 OK';
    if ($path =~ m{/slice} && $bytes =~ /^Range: bytes=(\d+)-(\d+)/mi) {
        my ($from, $to) = ($1, $2 < 249 ? $2 : 249);
        push @head, "Content-Range: bytes $from-$to/250", 'ETag: "x"';
        ($status, $text) = ('206 Partial', substr $body, $from, $to - $from + 1);
    }
    if ($path =~ m{/revalidate}) {
        push @head, 'ETag: "r"';
        ($status, $text) = ('304 Not Modified', '')
            if $bytes =~ /^If-None-Match:/mi;
    }
    push @head, 'Content-Length: ' . ($method eq 'HEAD' ? 2 : length $text);
    return [ delay => $path =~ /slow/ ? 0.1 : 0 ],
        join("\r\n", "HTTP/1.1 $status", @head, '', $text);
}

our $dir = tmpdir();
my %u = map { $_ => EdgespanTest::Upstream->new(respond => \&respond) } 1 .. 4;

my $n = EdgespanTest::NginxTraced->new(
    vars => { map {("UP$_" => $u{$_}->address)} 1 .. 4 },
    files => { 'html/f/page' => 'file' },
    http => <<'CONF');
proxy_cache_path %%PREFIX%%/tmp/cache keys_zone=c:1m;
proxy_http_version 1.1;
log_format ids '$request_uri $otel_upstream_span_id';
access_log %%PREFIX%%/ids.log ids;
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
    # nothing else names these two, so nginx knows no upstream{} of them
    location /runtime/ { set $to %%UP3%%; error_page 502 = @runtime; proxy_pass http://$to/reset/; }
    location @runtime { set $to %%UP4%%; proxy_pass http://$to; }
    location /read/ { otel_trace_context extract; set $to %%UP3%%; proxy_pass http://$to; }
    location /cache/ { proxy_cache c; proxy_cache_valid 1m; proxy_pass http://%%UP1%%; }
    location /revalidate/ { proxy_cache c; proxy_cache_revalidate on;
        proxy_cache_valid 1s; proxy_pass http://%%UP1%%; }
    location /stale/ { proxy_cache c; proxy_cache_valid 1s;
        proxy_cache_use_stale error updating; proxy_pass http://%%UP1%%; }
    location /update/ { proxy_cache c; proxy_cache_valid 1s;
        proxy_cache_use_stale updating; proxy_cache_background_update on;
        proxy_pass http://%%UP1%%; }
    location /slice/ { slice 100; proxy_set_header Range $slice_range;
        proxy_pass http://%%UP1%%; }
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
    my @spans = eval { $n->trace($record, $spans, 2) };
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
    return ({ came => \@came, server => $server, client => \@client,
        record => $record, answer => $answer }) if $opt{background};
    for my $client (@client) {
        is $client->{parent_span_id}, $server->{span_id}, 'below SERVER';
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
    cmp_ok $r->{client}[0]{end}, '<=', $r->{client}[1]{start} + 2e6,
        'one after the other';
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

subtest 'cache' => sub {
    my $r = request('/cache/x', 2);
    is $r->{record}{cache}, 'MISS', 'MISS';
    same_ids($r);
    $r = request('/cache/x', 1);
    is $r->{record}{cache}, 'HIT', 'HIT';
    is @{ $r->{came} }, 0, 'nothing came';
    $r = request('/cache/head', 2, method => 'HEAD');
    like $r->{came}[0], qr/^GET /, 'HEAD becomes GET for the cache';
    is $r->{client}[0]{attrs}{'http.request.method'}, 'GET', 'in CLIENT too';
    is $r->{server}{attrs}{'http.request.method'}, 'HEAD', 'not in SERVER';
};

subtest 'cache: REVALIDATED, STALE, background update' => sub {
    request("/$_/x", 2) for qw(revalidate stale update);
    # The cache counts whole seconds.
    my $from = time;
    wait_for(sub { time > $from + 2.1 }, 5, 'the cache to be stale');
    my $r = request('/revalidate/x', 2);
    is $r->{record}{cache}, 'REVALIDATED', 'REVALIDATED';
    same_ids($r);
    is $r->{client}[0]{attrs}{'http.response.status_code'}, 304,
        'the upstream said 304';
    is $r->{client}[0]{status}{code}, 'UNSET', 'no error';
    is $r->{server}{attrs}{'http.response.status_code'}, 200, 'the client 200';

    open my $fh, '>', "$dir/down" or die;
    $r = request('/stale/x', 2);
    unlink "$dir/down";
    is $r->{record}{cache}, 'STALE', 'STALE';
    is $r->{client}[0]{status}{code}, 'ERROR', 'CLIENT: error';
    is $r->{server}{status}{code}, 'UNSET', 'SERVER: none';

    $r = request('/update/x', 3, background => 1);
    is $r->{record}{cache}, 'STALE', 'served stale';
    push @{ $r->{came} }, ($u{1}->requests)[-1] unless @{ $r->{came} };
    same_ids($r);
};

$n->lint;
$n->finish;
done_testing;
