# What the head dropped and the end keeps: errors, slow ones and chosen statuses, all
# of them and nothing else.

use strict;
use warnings;

use List::Util qw(shuffle);
use Test::More;

use EdgespanTest;
use EdgespanTest::Gateway;
use EdgespanTest::Load;
use EdgespanTest::Nginx;
use EdgespanTest::Otlp;

use constant {TRACE => '4bf92f3577b34da6a3ce929d0e0e4736', PARENT => '00f067aa0ba902b7', SLOW => 1};

my $sent = \&EdgespanTest::Gateway::sent;

# The upstream answers as the path says: /<kind>/.
sub answer {
    my ($bytes) = @_;
    my ($how) = $bytes =~ m{^\S+ /\w+/(\w+)};
    my $status = {error => 500, refused => 429, missing => 404}->{$how} // 200;
    my $body = $how eq 'drips' ? 'x' x 5 : $bytes;
    my $head = sprintf "HTTP/1.1 %d Because\r\nContent-Length: %d\r\n\r\n", $status, length $body;
    return ([delay => SLOW + 0.3], $head . $body) if $how eq 'slow';
    return ([delay => 0.3], $head . $body) if $how eq 'waits';
    return ($head . 'x', map { ([delay => 0.3], 'x') } 2 .. length $body) if $how eq 'drips';
    return $head . $body;
}

# Where everything fails, fast: with a status that does not close the connection.
my $failing = EdgespanTest::Nginx->new(module => 0, name => 'upstream', access_log => 0, http => <<'END');
    keepalive_requests 1000000;
    server { listen 127.0.0.1:%%PORT%%; return 502; }
END
$failing->start;

my %config = (respond => \&answer, servers => ['', 'otel_sample_limit 1r/m burst=1;'],
    proxied => [
        '/keep/'  => "otel_sample_rate 0; otel_sample_keep error slow=${\SLOW}s status=429;",
        '/none/'  => 'otel_sample_rate 0;',
        '/off/'   => 'otel_trace off; otel_trace_context propagate; otel_sample_keep error;',
        '/4xx/'   => 'otel_sampler always_off; otel_sample_keep status=4xx;',
        '/head/'  => 'otel_sample_rate 1; otel_sample_keep error;',
        '/page/'  => ['otel_sample_rate 0; otel_sample_keep error;',
            {nginx => 'proxy_intercept_errors on; error_page 500 /pages/f;',
             httpd => "ProxyErrorOverride On\nErrorDocument 500 /pages/f"}],
    ],
    served => ['/pages/' => 'otel_sample_rate 0;',
        '/fails/' => ['otel_sample_rate 0; otel_sample_keep error limit=20r/s;',
            {nginx => "proxy_pass http://127.0.0.1:@{[$failing->port]};",
             httpd => "ProxyPass http://127.0.0.1:@{[$failing->port]}/"}]]);

sub keep_of { return $_[0]{attrs}{'edgespan.sampling.reason'} }

# 2000 requests of all kinds, in any order.
sub mixed {
    my ($gateway) = @_;
    my %count = (fine => 1600, error => 150, refused => 60, missing => 100, slow => 40, drips => 25,
        waits => 25);
    my @requests;
    for my $how (sort keys %count) {
        push @requests, map { {how => $how, path => "/keep/$how?n=$how$_",
            $how eq 'waits' ? (abort => 0.05) : ()} } 1 .. $count{$how};
    }
    is scalar(@requests), 2000, 'two thousand requests';
    EdgespanTest::Load::many($gateway->port, 24, shuffle @requests);
    $gateway->settle;

    my %why = (error => 'error', refused => 'status', slow => 'slow');
    my (%kept, %client);
    for ($gateway->collector->spans) {
        if ($_->{kind} eq 'CLIENT') { push @{$client{$_->{parent_span_id}}}, $_; next }
        push @{$kept{$1}}, $_ if ($_->{attrs}{'url.query'} // '') =~ /^n=([a-z]+\d+)$/;
    }
    my (@lost, @extra, @wrong, %seen);
    for my $request (@requests) {
        my ($n) = $request->{path} =~ /n=(\w+)/;
        my $how = $request->{how};
        my ($span, @more) = @{$kept{$n} // []};
        my $why = $why{$how};
        # On a busy machine anything may be slow: the client saw that, too, unless it
        # went away.
        my $stalled = !$why && ($request->{first} // $gateway->{records}{$n}{ms} / 1000) >= SLOW;
        next if $stalled;
        if (!$why) { push @extra, $n if $span; next }
        if (!$span) { push @lost, $n; next }
        $seen{$how}++;
        my ($child, @others) = @{$client{$span->{span_id}} // []};
        my $reason = keep_of($span) // '';
        my $ok = !@more && !@others && $child && $child->{trace_id} eq $span->{trace_id}
            && ($reason eq $why || $reason eq 'slow' && $request->{first} >= SLOW)
            && !grep({ $_->{flags} & 1 || $_->{trace_state} ne '' || keep_of($_) ne $reason } $span, $child)
            && $gateway->{records}{$n}{decision} =~ /^keep $reason \(/;
        push @wrong, $n unless $ok;
    }
    is_deeply \@lost, [], 'none is lost';
    is_deeply \@extra, [], 'and nothing else is kept';
    is_deeply \@wrong, [], 'SERVER and CLIENT spans, not sampled, with the reason'
        or diag explain [$kept{$wrong[0]}, $gateway->{records}{$wrong[0]}];
    is_deeply \%seen, {error => 150, refused => 60, slow => 40}, 'as many as there were';
    is_deeply [sort keys %{{map { $_->{status} => 1 } grep { $_->{how} eq 'error' } @requests}}], [500],
        'the answers are those of the upstream';
    is scalar(grep { $_->{how} eq 'waits' && $_->{status} } @requests), 0, 'aborted ones had none';
    my @told = map { /^traceparent: (\S+)/mi ? $1 : () } $gateway->upstream->requests;
    is scalar(grep { $_ !~ /-0[02]$/ } @told), 0, 'the upstream was always told: not sampled';
    cmp_ok scalar(@told), '>=', 1975, 'all of them passed there';
    return;
}

sub single {
    my ($gateway) = @_;
    my @parent = (headers => [[traceparent => '00-' . TRACE . '-' . PARENT . '-00'],
        [tracestate => 'a=1,ot=th:8;rv:ffffffffffffff']]);
    my %asked = (
        parent  => $gateway->ask('/keep/error', @parent),
        silent  => $gateway->ask('/none/error'),
        off     => $gateway->ask('/off/error'),
        missing => $gateway->ask('/4xx/missing'),
        error   => $gateway->ask('/4xx/error'),
        sampled => $gateway->ask('/head/error'),
        fine    => $gateway->ask('/head/fine'),
        page    => $gateway->ask('/page/error'),
        one     => $gateway->ask('/head/fine', server => 2),
        two     => $gateway->ask('/head/fine', server => 2),
        three   => $gateway->ask('/head/error', server => 2),
    );
    $gateway->settle;
    my $decision = sub { $gateway->record($asked{$_[0]})->{decision} };

    my ($server, $client, @more) = $gateway->spans($asked{parent});
    is_deeply [$server->{trace_id}, $server->{parent_span_id}], [TRACE, PARENT],
        'a caller that did not sample is the parent all the same';
    is_deeply [$server->{flags} & 1, $client->{flags} & 1], [0, 0], 'not sampled';
    unlike $server->{trace_state}, qr/th:/, 'no th';
    like $server->{trace_state}, qr/rv:ffffffffffffff/, 'rv stays';
    is_deeply [map { keep_of($_) } $server, $client], ['error', 'error'], 'the spans say why';
    like $decision->('parent'), qr/^keep error \(/, 'and so does the log';
    is scalar(@more), 0, 'no more spans';

    for ([silent => qr/^drop ratio=0 /, 'no rule'], [off => qr/^drop off/, 'tracing that is off'],
        [error => qr/^drop always_off /, 'a rule of other statuses'], [two => qr/^limit /, 'what is fine, over the limit']) {
        my ($which, $expected, $what) = @$_;
        is scalar(() = $gateway->spans($asked{$which})), 0, "$what keeps nothing";
        like $decision->($which), $expected, "$what: the decision";
    }
    is keep_of(($gateway->spans($asked{missing}))[0]), 'status', 'status=4xx';
    for (qw(sampled fine one)) {
        my ($span) = $gateway->spans($asked{$_});
        is keep_of($span), undef, "$_: what the head took was not kept";
        is $span->{flags} & 1, 1, "$_: and is sampled";
    }
    my ($page, @inner) = $gateway->spans($asked{page});
    is $asked{page}{answer}{body}, "ok\n", 'an error page';
    is keep_of($page), 'error', 'does not hide the error';
    is_deeply [map { $_->{kind} } @inner], ['CLIENT'], 'nor its CLIENT span';
    is keep_of(($gateway->spans($asked{three}))[0]), 'error', 'an error over the limit is kept';
    return;
}

# All fails, as fast as it can.
sub overload {
    my ($gateway) = @_;
    my $took = spread($gateway->port, '/fails/f', 4);
    $gateway->settle;
    my $of = $gateway->tally(decision => '/fails/');
    is_deeply [map { s/ \(.*//r } sort keys %$of], ['drop keep limit', 'keep error'], 'kept, or over the limit'
        or diag explain $of;
    my ($no, $yes) = @$of{sort keys %$of};
    my $expected = 20 * $took + 2;
    note sprintf '%s: %d of %d kept in %.2f s', $gateway->kind, $yes, $yes + $no, $took;
    cmp_ok $no, '>', 10 * $expected, 'the load is far above';
    # While a busy machine stands still nothing is kept; the burst is small.
    cmp_ok $yes, '<=', 1.05 * $expected + 1, 'kept is no more than the limit says';
    cmp_ok $yes, '>=', 0.8 * $expected, 'and not much less';
    my @kept = grep { $_->{attrs}{'url.path'} eq '/fails/f' } $gateway->collector->spans(kind => 'SERVER');
    is scalar(@kept), $yes, 'so many spans';
    return;
}

for my $kind (split ' ', $ENV{KIND} // 'nginx httpd') {
    my $gateway = EdgespanTest::Gateway->new($kind, %config, workers => 2,
        log => {ms => {nginx => '${request_time}e3', httpd => '%{ms}T'}});
    subtest "$kind: two thousand" => sub { mixed($gateway) };
    subtest "$kind: one by one" => sub { single($gateway) };
    subtest "$kind: all fails" => sub { overload($gateway) };
    is_deeply [EdgespanTest::Otlp::lint([$gateway->collector->spans])], [], "$kind: well-formed spans";
    $gateway->finish;
}
$failing->finish;
done_testing;
