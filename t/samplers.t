# Each sampler by its share: what the server decided, what arrived at the collector,
# and what the upstream was told of the probability.

use strict;
use warnings;

use List::Util qw(sum0);
use Test::More;

use EdgespanTest;
use EdgespanTest::Gateway;
use EdgespanTest::Load;

use constant {MANY => 100_000, SOME => 2_000};

my $sent = \&EdgespanTest::Gateway::sent;

my @served = (
    '/default/'      => '',
    '/on/'           => 'otel_sampler always_on;',
    '/off/'          => 'otel_sampler always_off;',
    '/ratio/'        => 'otel_sampler traceidratio; otel_sample_rate 10%;',
    '/parent-on/'    => 'otel_sampler parentbased_always_on;',
    '/parent-off/'   => 'otel_sampler parentbased_always_off;',
    '/parent-ratio/' => 'otel_sampler parentbased_traceidratio; otel_sample_rate 0.01;',
    '/variable/'     => {nginx => 'otel_sample_rate $http_x_rate;',
                         httpd => 'OtelSampleRate "expr=%{req:X-Rate}"'},
    '/rules/'        => {nginx => 'otel_sample_rate $by_request;', httpd => <<'END'},
OtelSampleRate 5%
<If "%{req:X-Canary} == '1'">
    OtelSampleRate 100%
</If>
<If "%{REQUEST_METHOD} == 'HEAD'">
    OtelSampleRate 0
</If>
END
);
my @proxied = (
    '/up/'     => '',
    '/up-on/'  => 'otel_sampler always_on;',
    '/up-off/' => 'otel_sampler always_off;',
    '/up-10/'  => 'otel_sample_rate 10%;',
    '/up-all/' => 'otel_sample_rate 100%;',
    '/up-own/' => 'otel_sampler traceidratio; otel_sample_rate 10%;',
);
my %config = (served => \@served, proxied => \@proxied, main => {nginx => <<'END'});
    map $request_method:$http_x_canary $by_request {
        default   5%;
        ~^HEAD:   0;
        ~:1$      100%;
    }
END

# Headers of a caller with this flag; '': there is none.
sub caller_with {
    my ($flag) = @_;
    return $flag eq '' ? [] : sub { [[traceparent => traceparent($flag)]] };
}

# Decisions, and spans that came of them.
sub run {
    my ($gateway, $path, $count, $headers) = @_;
    my $ids = $gateway->collector->span_ids_fast;
    my $before = keys %$ids;
    my $counted = $gateway->counted($count, sub {
        load($gateway->port, "${path}f", $count, headers => $headers);
    });
    my $sampled = sum0 map { $counted->{$_} } grep { /_sampled$/ } keys %$counted;
    wait_for(sub { keys %{$gateway->collector->span_ids_fast} >= $before + $sampled }, 20,
        "$sampled spans");
    return ($counted, keys(%$ids) - $before);
}

# All or none, and for this reason.
sub always {
    my ($gateway, $path, $flag, $reason) = @_;
    my $count = $flag eq '' ? MANY / 10 : SOME;
    my ($counted, $made) = run($gateway, $path, $count, caller_with($flag));
    is_deeply [$counted, $made], [{$reason => $count}, $reason =~ /_sampled$/ ? $count : 0],
        "$path, " . ($flag eq '' ? 'no caller' : "a caller's $flag") . ": $reason";
    return;
}

# A share of so many requests, within three standard deviations. Chance alone leaves
# them once in 370 times; what it does twice is no chance.
sub share {
    my ($gateway, $path, $p, $headers) = @_;
    my ($off, $yes, $no, $made);
    for my $try (1, 2) {
        (my $counted, $made) = run($gateway, $path, MANY, $headers);
        ($yes, $no) = map { $counted->{"ratio_$_"} // 0 } qw(sampled unsampled);
        $off = ($yes - MANY * $p) / sqrt(MANY * $p * (1 - $p));
        note sprintf '%s %s: %d of %d, %+.2f sigma', $gateway->kind, $path, $yes, MANY, $off;
        last if abs $off <= 3;
    }
    is_deeply [$yes + $no, $made], [MANY, $yes], "$path: all are counted, all spans arrive";
    cmp_ok abs $off, '<=', 3, sprintf '%s: %d of %d', $path, $yes, MANY;
    return;
}

sub rules {
    my ($gateway) = @_;
    my ($canaries) = run($gateway, '/rules/', SOME, [['X-Canary' => 1]]);
    is_deeply $canaries, {ratio_sampled => SOME}, 'by header';
    my $heads = $gateway->counted(20, sub {
        http_get($gateway->port, '/rules/f', method => 'HEAD') for 1 .. 20;
    });
    is_deeply $heads, {ratio_unsampled => 20}, 'by method';
    my ($broken) = run($gateway, '/variable/', SOME, [['X-Rate' => 'lots']]);
    is_deeply $broken, {ratio_unsampled => SOME}, 'what is no rate samples nothing';
    return;
}

# What the caller's ids are, but for the 14 digits that are their randomness.
use constant {TRACE => '5eed5eed0000000000', PARENT => '00f067aa0ba902b7'};

# path; randomness and flag of the caller's ids, his tracestate; is it sampled, and
# which tracestate goes on.
my @probabilities = (
    ['always_on by default says nothing', '/up/', undef, undef, undef, 1, undef],
    ['nor does always_on', '/up-on/', undef, undef, undef, 1, undef],
    ['a rate of 100 % does', '/up-all/', undef, undef, undef, 1, 'ot=th:0'],
    ['our rate and a high randomness', '/up-own/', 'e6660000000000', '00', undef, 1, 'ot=th:e666'],
    ['our rate and a low randomness', '/up-own/', 'e665ffffffffff', '01', undef, 0, undef],
    ['rv beats the trace id: up', '/up-own/', '00000000000000', '00', 'ot=rv:e6660000000000,b=2', 1,
        'ot=th:e666;rv:e6660000000000,b=2'],
    ['rv beats the trace id: down', '/up-own/', 'ffffffffffffff', '01', 'a=1,ot=rv:00000000000000;x:y', 0,
        'a=1,ot=rv:00000000000000;x:y'],
    ["a caller's th is replaced by ours", '/up-own/', 'ffffffffffffff', '01', 'a=1,ot=th:8;x:y', 1,
        'ot=th:e666;x:y,a=1'],
    ["a caller's th is dropped where we say no", '/up-own/', '90000000000000', '01', 'a=1,ot=th:8', 0,
        'a=1'],
    ["a sampled caller's th stays", '/up-10/', '90000000000000', '01', 'a=1,ot=th:8', 1, 'a=1,ot=th:8'],
    ['unless it cannot be', '/up-10/', '10000000000000', '01', 'a=1,ot=th:8', 1, 'a=1'],
    ['a sampled caller without th', '/up-10/', '10000000000000', '01', 'a=1', 1, 'a=1'],
    ["an unsampled caller's th goes", '/up-10/', 'f0000000000000', '00', 'a=1,ot=th:8', 0, 'a=1'],
    ["always_on drops a caller's th", '/up-on/', 'f0000000000000', '01',
        'a=1,ot=th:8;rv:f0000000000000', 1, 'ot=rv:f0000000000000,a=1'],
    ['always_off, too', '/up-off/', 'f0000000000000', '01', 'ot=th:8', 0, undef],
);

sub probabilities {
    my ($gateway) = @_;
    my @asked = map {
        my (undef, $path, $random, $flag, $tracestate) = @$_;
        $gateway->ask($path, headers => [
            defined $random ? [traceparent => '00-' . TRACE . "$random-@{[PARENT]}-$flag"] : (),
            defined $tracestate ? [tracestate => $tracestate] : ()]);
    } @probabilities;
    my @new = map { $gateway->ask('/up-10/') } 1 .. 100;
    $gateway->settle;
    for (0 .. $#asked) {
        my ($what, undef, $random, undef, undef, $sampled, $tracestate) = @{$probabilities[$_]};
        my $flags = $random ? $sampled : $sampled | 2;
        like $sent->($asked[$_], 'traceparent'), qr/-0$flags$/, "$what: the flags";
        is $sent->($asked[$_], 'tracestate'), $tracestate, "$what: at the upstream";
        is_deeply [map { $_->{trace_state} } $gateway->spans($asked[$_])],
            [($tracestate // '') x (2 * $sampled)], "$what: in the spans";
    }
    my @wrong = grep {
        my $high = substr($gateway->record($_)->{trace}, 18) ge 'e6660000000000';
        my @spans = $gateway->spans($_);
        ($sent->($_, 'tracestate') // '') ne ($high ? 'ot=th:e666' : '') || @spans != ($high ? 2 : 0)
    } @new;
    is scalar(@wrong), 0, 'new traces are decided by their own ids';
    return;
}

for my $kind (split ' ', $ENV{KIND} // 'nginx httpd') {
    my $gateway = EdgespanTest::Gateway->new($kind, %config, workers => 2);
    subtest "$kind: always, or as the caller says" => sub {
        always($gateway, @$_) for (
            ['/parent-on/', '', 'always_on_sampled'],
            ['/parent-off/', '', 'always_off_unsampled'],
            ['/on/', '', 'always_on_sampled'], ['/on/', '00', 'always_on_sampled'],
            ['/off/', '', 'always_off_unsampled'], ['/off/', '01', 'always_off_unsampled'],
            map { (["/$_/", '01', 'parent_sampled'], ["/$_/", '00', 'parent_unsampled']) }
                qw(default parent-on parent-off parent-ratio),
        );
    };
    subtest "$kind: shares" => sub {
        share($gateway, '/ratio/', 0.1, caller_with('01'));
        share($gateway, '/parent-ratio/', 0.01, []);
        share($gateway, '/variable/', 0.03, [['X-Rate' => '3%']]);
        share($gateway, '/rules/', 0.05, []);
    };
    subtest "$kind: rules" => sub { rules($gateway) };
    $gateway->finish;

    $gateway = EdgespanTest::Gateway->new($kind, %config);
    subtest "$kind: probability in tracestate" => sub { probabilities($gateway) };
    $gateway->finish;
}
done_testing;
