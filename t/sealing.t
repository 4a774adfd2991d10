# When a decision is fixed: rules that use the trace id, and internal redirects, which
# switch sampling on, never off.

use strict;
use warnings;

use Test::More;

use EdgespanTest;
use EdgespanTest::Gateway;
use EdgespanTest::Otlp;

my $sent = \&EdgespanTest::Gateway::sent;

# The upstream: 500 where the path says so, a redirect to another location, or an echo.
sub answer {
    my ($bytes) = @_;
    my ($path) = $bytes =~ /^\S+ (\S+)/;
    return "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n" if $path =~ /error/;
    return "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /$1/f\r\nContent-Length: 0\r\n\r\n"
        if $path =~ m{accel-(\w+)};
    return EdgespanTest::Gateway::echo($bytes);
}

sub errors_to { my ($text, $target) = @_;
    return [$text, {nginx => "proxy_intercept_errors on; error_page 500 /$target/f;",
        httpd => "ProxyErrorOverride On\nErrorDocument 500 /$target/f"}] }
sub missing_to { my ($text, $target) = @_;
    return [$text, {nginx => "error_page 404 /$target/f;", httpd => "ErrorDocument 404 /$target/f"}] }

my @served = (
    '/yes/'         => 'otel_sample_rate 1;',
    '/no/'          => 'otel_sample_rate 0;',
    '/plain/'       => 'otel_trace off;',
    '/no-to-yes/'   => missing_to('otel_sample_rate 0;', 'yes'),
    '/yes-to-no/'   => missing_to('otel_sample_rate 1;', 'no'),
    '/yes-to-off/'  => missing_to('otel_sample_rate 1;', 'plain'),
    '/off-to-yes/'  => missing_to('otel_trace off;', 'yes'),
    '/keep-to-no/'  => missing_to('otel_sample_rate 0; otel_sample_keep status=404;', 'no'),
);
my @proxied = (
    '/up-no-to-yes/' => errors_to('otel_sample_rate 0;', 'yes'),
    '/up-yes-to-no/' => errors_to('otel_sample_rate 1;', 'no'),
    '/up-yes/'       => 'otel_sample_rate 1;',
);

# path => how many spans, and what decided; what the upstream was told stays true.
my @redirects = (
    ['/yes-to-no/gone', 1, qr/^ratio=1 /, 'not off'],
    ['/yes-to-off/gone', 1, qr/^ratio=1 /, 'not off where nothing is traced'],
    ['/off-to-yes/gone', 1, qr/^ratio=1 /, 'on where nothing was traced'],
    ['/keep-to-no/gone', 1, qr/^keep status /, 'a rule of the end stays'],
    ['/up-no-to-yes/error', 0, qr/^drop ratio=0 /, 'not on once an upstream was told'],
    ['/up-yes-to-no/error', 2, qr/^ratio=1 /, 'not off once an upstream was told'],
);

# The ways from one place to another that only one server has. httpd shows the decision
# in the environment of whatever serves, files, too; who is denied is not served.
my %own = (nginx => [
    ['/no-to-yes/gone', 1, qr/^ratio=1 /, 'on'],
    ['/try-no-to-yes/gone', 1, qr/^ratio=1 /, 'try_files: on'],
    ['/try-yes-to-no/gone', 1, qr/^ratio=1 /, 'try_files: not off'],
    ['/rewrite-yes-to-no/f', 0, qr/^drop ratio=0 /, 'rewrite is no redirect: the location that serves decides'],
    ['/named-yes-to-no/gone', 1, qr/^ratio=1 /, 'a named location: not off'],
    ['/up-yes/accel-no', 2, qr/^ratio=1 /, 'X-Accel-Redirect: not off'],
    ['/read-no-to-yes/gone', 0, qr/^drop ratio=0 /, 'a decision that was read is fixed'],
    ['/id-no-to-yes/gone', 1, qr/^ratio=1 /, 'an id that was read is none'],
], httpd => [
    ['/denied-no-to-yes/f', 1, qr/^ratio=1 /, 'on'],
    ['/no-to-yes/gone', 0, qr/^drop ratio=0 /, 'not on once it was shown'],
    ['/dir-yes/', 1, qr/^ratio=1 /, "mod_dir's index: the place that serves decides"],
    ['/dir-no/', 0, qr/^drop ratio=0 /, "mod_dir's index: also against it"],
]);

my %main = (nginx => <<'END');
    split_clients $otel_trace_id $by_id { 20% 100%; * 0; }
END
my %server = (nginx => <<'END', httpd => <<'END');
    location /try-no-to-yes/ { otel_sample_rate 0; try_files $uri /yes/f; }
    location /try-yes-to-no/ { otel_sample_rate 1; try_files $uri /no/f; }
    location /rewrite-yes-to-no/ { otel_sample_rate 1; rewrite ^ /no/f last; }
    location /named-yes-to-no/ { otel_sample_rate 1; error_page 404 = @no; }
    location @no { otel_sample_rate 0; try_files /no/f =404; }
    location /read-no-to-yes/ { otel_sample_rate 0; set $why $otel_decision; try_files $uri /yes/f; }
    location /id-no-to-yes/ { otel_sample_rate 0; set $id $otel_trace_id; try_files $uri /yes/f; }
    location /split/ { otel_sample_rate $by_id; proxy_pass http://%%UPSTREAM%%; }
END
DirectoryIndex f
<Location /denied-no-to-yes/>
    OtelSampleRate 0
    Require all denied
    ErrorDocument 403 /yes/f
</Location>
<Location /dir-yes/>
    OtelSampleRate 0
</Location>
<Location /dir-yes/f>
    OtelSampleRate 1
</Location>
<Location /dir-no/>
    OtelSampleRate 1
</Location>
<Location /dir-no/f>
    OtelSampleRate 0
</Location>
END

for my $kind (split ' ', $ENV{KIND} // 'nginx httpd') {
    my $gateway = EdgespanTest::Gateway->new($kind, respond => \&answer, main => \%main, servers => [\%server],
        served => \@served, proxied => \@proxied,
        files => {'html/dir-yes/f' => "ok\n", 'html/dir-no/f' => "ok\n"});
    my @cases = map { [$gateway->ask($_->[0]), @$_] } @redirects, @{$own{$kind}};
    my @split = $kind eq 'nginx' ? map { $gateway->ask('/split/') } 1 .. 200 : ();
    $gateway->settle;
    for (@cases) {
        my ($asked, $path, $count, $decision, $what) = @$_;
        my @spans = $gateway->spans($asked);
        is scalar(@spans), $count, "$kind: $path: $what";
        like $gateway->record($asked)->{decision}, $decision, "$kind: $path: decision"
    }
    if (@split) {
        my @yes = grep { $gateway->record($_)->{sampled} } @split;
        # 40 +- 6 of 200.
        cmp_ok abs(@yes - 40), '<', 34, 'split_clients by the trace id: ' . @yes . ' of 200';
        is_deeply [map { scalar(() = $gateway->spans($_)) } @split],
            [map { 2 * $gateway->record($_)->{sampled} } @split], 'and all of a trace, or nothing';
        is_deeply [map { $sent->($_, 'traceparent') =~ /-0([23])$/ ? $1 - 2 : 'none' } @split],
            [map { $gateway->record($_)->{sampled} } @split], 'as the upstream is told';
    }
    is_deeply [EdgespanTest::Otlp::lint([$gateway->collector->spans])], [], "$kind: well-formed spans";
    $gateway->finish;
}
done_testing;
