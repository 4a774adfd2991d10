# nginx's cache: what it says of each (sub)request, and CLIENT spans for what was
# asked of an upstream only.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use EdgespanTest;
use EdgespanTest::NginxTraced;
use EdgespanTest::Upstream;

# The upstream is slow, away or hangs while a file of that name is there.
our $dir = tmpdir();
sub set   { open my $fh, '>', "$dir/$_[0]" or die $!; return }
sub unset { unlink "$dir/$_[0]" or die $!; return }
sub head  { return $_[0] =~ /^If-None-Match:/mi ? '304 Not Modified' : '200 OK' }

my $http = EdgespanTest::Upstream->new(respond => sub {
    my ($bytes) = @_;
    return 'reset' if -e "$main::dir/down";
    my $status = head($bytes);
    my $body = $status =~ /304/ ? '' : 'ok';
    return (-e "$main::dir/slow" ? [ delay => 3 ] : ()),
        "HTTP/1.1 $status\r\nETag: \"x\"\r\nContent-Length: "
        . length($body) . "\r\n\r\n$body";
});
my $fastcgi = EdgespanTest::Upstream->new(protocol => 'fastcgi', respond => sub {
    return -e "$main::dir/hang" ? 'hang'
        : EdgespanTest::Upstream::fastcgi_response() });

my $n = EdgespanTest::NginxTraced->new(
    vars => { UP => $http->address, FASTCGI => $fastcgi->address },
    files => { 'html/page' => '<!--# include virtual="/stale/part" -->',
        'html/kept' => '<!--# include virtual="/long/x" -->' },
    http => <<'CONF');
proxy_cache_path %%PREFIX%%/tmp/cache keys_zone=c:1m;
fastcgi_cache_path %%PREFIX%%/tmp/fcache keys_zone=f:1m;
fastcgi_cache_key $request_uri;
proxy_http_version 1.1;
server {
    listen 127.0.0.1:%%PORT1%%;
    proxy_cache c;
    proxy_cache_valid 1s;
    location /long/ { proxy_cache_valid 1h; proxy_pass http://%%UP%%; }
    location /bypass/ { proxy_cache_bypass $arg_fresh; proxy_pass http://%%UP%%; }
    location /off/ { proxy_cache off; proxy_pass http://%%UP%%; }
    location /stale/ { proxy_cache_use_stale error updating; proxy_pass http://%%UP%%; }
    location /etag/ { proxy_cache_revalidate on; proxy_pass http://%%UP%%; }
    location /update/ { proxy_cache_use_stale updating; proxy_cache_background_update on;
        proxy_pass http://%%UP%%; }
    location = /page { ssi on; ssi_types *; alias %%PREFIX%%/html/page; }
    location = /kept { ssi on; ssi_types *; alias %%PREFIX%%/html/kept; }
    location /fcgi/ { fastcgi_cache f; fastcgi_cache_valid 1s; fastcgi_read_timeout 2s;
        fastcgi_cache_use_stale timeout; fastcgi_pass %%FASTCGI%%; }
}
CONF
$n->start;

# Makes a request; returns its spans by kind, after what holds for each.
sub request {
    my ($path, $want, %opt) = @_;
    my ($answer, $record) = $n->recorded(
        sub { http_get($n->port(1), $path, %opt) }, 1, 15);
    my @spans = $n->trace($record, $want, 10);
    is @spans, $want, "$path: $want spans";
    my %by;
    push @{ $by{ $_->{kind} } }, $_
        for sort { $a->{start} <=> $b->{start} } @spans;
    return { server => $by{SERVER}[0], client => $by{CLIENT}[0],
        internal => $by{INTERNAL}[0], answer => $answer };
}

sub says {
    my ($span, $status) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is $span->{attrs}{'edgespan.cache.status'}, $status,
        "$span->{kind}: " . ($status // 'nothing');
}

sub sent_id {
    my ($tp) = EdgespanTest::Upstream::header_values(
        ($http->requests)[-1], 'traceparent');
    return (split /-/, $tp)[2];
}

subtest 'MISS, HIT' => sub {
    my $r = request('/long/x', 2);
    says($r->{server}, 'MISS');
    says($r->{client}, undef);
    is sent_id(), $r->{client}{span_id}, 'the upstream saw its id';
    my $before = $http->requests;
    $r = request('/long/x', 1);
    says($r->{server}, 'HIT');
    is $r->{server}{attrs}{$_}, undef, "no $_"
        for map {"edgespan.time.upstream_$_"} qw(connect first_byte body);
    is scalar(my @all = $http->requests), $before, 'nothing came';

    $r = request('/long/head', 2, method => 'HEAD');
    is $r->{client}{attrs}{'http.request.method'}, 'GET',
        'HEAD becomes GET for the cache';
    is $r->{server}{attrs}{'http.request.method'}, 'HEAD', 'not in SERVER';
};

subtest 'BYPASS, and no cache at all' => sub {
    request('/bypass/x', 2);
    my $r = request('/bypass/x?fresh=1', 2);
    says($r->{server}, 'BYPASS');
    $r = request('/off/x', 2);
    says($r->{server}, undef);
};

# What is cached now is stale when all of these have been asked for.
my @paths = qw(/bypass/old /stale/x /stale/y /stale/part /etag/x /update/x);
request($_, 2) for @paths, '/fcgi/x';
my $from = time;
wait_for(sub { time > $from + 2.1 }, 10, 'the cache to be stale');

subtest 'EXPIRED' => sub {
    my $r = request('/bypass/old', 2);
    says($r->{server}, 'EXPIRED');
    is $r->{client}{attrs}{'http.response.status_code'}, 200, 'CLIENT: 200';
};

subtest 'REVALIDATED' => sub {
    my $r = request('/etag/x', 2);
    says($r->{server}, 'REVALIDATED');
    is $r->{client}{attrs}{'http.response.status_code'}, 304, 'CLIENT: 304';
    is $r->{client}{status}{code}, 'UNSET', 'no error';
    is $r->{server}{attrs}{'http.response.status_code'}, 200, 'SERVER: 200';
};

subtest 'STALE: the upstream failed' => sub {
    set('down');
    my $r = request('/stale/x', 2);
    unset('down');
    says($r->{server}, 'STALE');
    is $r->{server}{status}{code}, 'UNSET', 'SERVER: no error';
    is $r->{client}{attrs}{'error.type'}, 'no_response', 'CLIENT: error';
    is $r->{client}{attrs}{'edgespan.time.upstream_first_byte'}, undef,
        'no first byte';
};

subtest 'STALE: the file that is read then is no response of the upstream' => sub {
    set('hang');
    my $r = request('/fcgi/x', 2);
    unset('hang');
    says($r->{server}, 'STALE');
    like $r->{answer}{body}, qr/ok/, 'served';
    is $r->{client}{attrs}{'error.type'}, 'timeout', 'CLIENT: timeout';
    is $r->{client}{attrs}{'http.response.status_code'}, undef, 'no status';
    is $r->{client}{attrs}{'edgespan.time.upstream_first_byte'}, undef,
        'no first byte';
};

subtest 'UPDATING: another asks' => sub {
    my $before = $http->requests;
    set('slow');
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        eval { http_get($n->port(1), '/stale/y') };
        POSIX::_exit(0);
    }
    $http->wait_requests($before + 1, 10);
    my $r = request('/stale/y', 1);
    says($r->{server}, 'UPDATING');
    waitpid $pid, 0;
    unset('slow');
};

subtest 'of a subrequest' => sub {
    my $r = request('/page', 3);
    says($r->{internal}, 'EXPIRED');
    says($r->{server}, undef);
    is $r->{client}{parent_span_id}, $r->{internal}{span_id}, 'CLIENT below it';
    is sent_id(), $r->{client}{span_id}, 'the upstream saw its id';
    $r = request('/kept', 2);
    says($r->{internal}, 'HIT');
};

subtest 'a background update outlives the request' => sub {
    set('slow');
    my $r = request('/update/x', 3);
    unset('slow');
    says($r->{server}, 'STALE');
    my ($server, $internal, $client) = @$r{qw(server internal client)};
    is $internal->{attrs}{'edgespan.background'}, 1, 'in the background';
    says($internal, 'EXPIRED');
    is $internal->{parent_span_id}, $server->{span_id}, 'INTERNAL below SERVER';
    is $client->{parent_span_id}, $internal->{span_id}, 'CLIENT below INTERNAL';
    is sent_id(), $client->{span_id}, 'the upstream saw its id';
    cmp_ok $client->{end} - $client->{start}, '>=', 2.9e9, 'it took its time';
    cmp_ok $server->{end}, '<', $client->{end}, 'the client did not wait';
    is $server->{attrs}{'edgespan.time.upstream_first_byte'}, undef,
        'nor is it in its times';
};

$n->lint;
$n->finish;
done_testing;
