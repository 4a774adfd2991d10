# One budget: for all processes, all that inherit it, whoever decided, over a reload.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);

use EdgespanTest;
use EdgespanTest::Gateway;
use EdgespanTest::Load;

use constant {SECONDS => 8, RATE => 200, BURST => 100};

# The servers of a gateway, by number.
use constant {MUCH => 1, FEW => 2, SHARED => 3, SHARED_TOO => 4, HALF => 5};
my @servers = (
    # A burst of half a second's worth: that long may a busy machine stand still.
    'otel_sample_limit ' . RATE . 'r/s burst=' . BURST . ';',
    'otel_sample_limit 1r/m burst=20;',
    '', '',                                 # inherit
    'otel_sample_limit 1r/m burst=50;',
);
my %config = (main => 'otel_sample_limit 1r/m burst=30;', servers => \@servers,
    proxied => ['/up/' => '', '/half/' => 'otel_sample_rate 50%;'],
    served => ['/free/' => '', '/never/' => 'otel_sample_rate 0;']);

my %sampled_parent = (headers => sub { [[traceparent => traceparent('01')]] });

# SERVER spans and refusals of so many requests.
sub spend {
    my ($gateway, $server, $count, $path, %opt) = @_;
    my $counted = $gateway->counted($count, sub { load($gateway->port($server), $path // '/free/f', $count, %opt) });
    return ($count - ($counted->{limit_unsampled} // 0), $counted);
}

# As much load as there can be, over several processes, for seconds.
sub rate {
    my ($gateway, $what, $reason, %opt) = @_;
    sleep BURST / RATE; # the whole burst is there (again)
    my $before = $gateway->decided;
    my $spans = keys %{$gateway->collector->span_ids_fast};
    my $took = spread($gateway->port(MUCH), '/free/f', SECONDS, %opt);
    my $now = wait_for(sub {
        my ($one, $two) = map { $gateway->decided } 1, 2;
        $one->{$reason} == $two->{$reason} && $one->{limit_unsampled} == $two->{limit_unsampled} && $two;
    }, 10, 'the counters to rest');
    my ($yes, $no) = map { $now->{$_} - $before->{$_} } $reason, 'limit_unsampled';
    my $expected = RATE * $took + BURST;
    note sprintf '%s, %s: %d of %d in %.2f s, %.1f %% of what is allowed', $gateway->kind, $what, $yes,
        $yes + $no, $took, 100 * $yes / $expected;
    cmp_ok $no, '>', 3 * $yes, "$what: the load is far above";
    cmp_ok abs($yes - $expected), '<=', 0.05 * $expected, "$what: within 5 %";
    wait_for(sub { keys %{$gateway->collector->span_ids_fast} >= $spans + $yes }, 20, 'the spans');
    is keys(%{$gateway->collector->span_ids_fast}) - $spans, $yes, "$what: so many spans";
    return;
}

sub budgets {
    my ($gateway) = @_;
    is_deeply [(spend($gateway, FEW, 100))[0], (spend($gateway, FEW, 100))[0]], [20, 0], 'a burst, and no more';
    my ($first) = spend($gateway, SHARED, 20);
    my ($second) = spend($gateway, SHARED_TOO, 100);
    is_deeply [$first, $second], [20, 10], 'two servers share what they inherit';

    my ($yes, $counted) = spend($gateway, HALF, 40, '/free/f', %sampled_parent);
    is_deeply $counted, {parent_sampled => 40}, 'sampled parents spend it';
    (undef, $counted) = spend($gateway, HALF, 200, '/never/f');
    is_deeply $counted, {ratio_unsampled => 200}, 'what is not sampled costs nothing';
    (undef, $counted) = spend($gateway, HALF, 100, '/free/f', %sampled_parent);
    is_deeply $counted, {parent_sampled => 10, limit_unsampled => 90}, 'and is told apart from what is refused';

    $gateway->server->reload(undef, drain => 1);
    is_deeply [map { (spend($gateway, $_, 100))[0] } FEW, SHARED, SHARED_TOO, HALF], [0, 0, 0, 0],
        'a reload brings no second budget';

    # What the old limit has reached is twenty minutes ahead.
    $gateway->server->reload($gateway->server->{http} =~ s{1r/m burst=20}{50r/s burst=5}r, drain => 1);
    ok eval { wait_for(sub { (spend($gateway, FEW, 20))[0] > 0 }, 5, 'something within the new limit') },
        'another limit is in force at once';
    return;
}

# The probability is known as long as nothing was refused.
sub threshold {
    my ($gateway) = @_;
    my @asked = map { $gateway->ask('/half/', server => HALF) } 1 .. 30;
    my $parent = $gateway->ask('/up/', server => HALF,
        headers => [[traceparent => '00-5eed5eed0000000000f0000000000000-00f067aa0ba902b7-01'],
            [tracestate => 'a=1,ot=th:8']]);
    load($gateway->port(HALF), '/free/f', 100, %sampled_parent);
    my @over = map { $gateway->ask('/half/', server => HALF) } 1 .. 30;
    my $refused = $gateway->ask('/up/', server => HALF,
        headers => [[traceparent => '00-5eed5eed0000000000f0000000000001-00f067aa0ba902b7-01'],
            [tracestate => 'a=1,ot=th:8']]);
    my $much = time + 1;
    load($gateway->port(MUCH), '/free/f', 500) while time < $much;
    my @among = map { sleep 0.02; $gateway->ask('/half/', server => MUCH) } 1 .. 40;
    $gateway->settle;

    my $sent = \&EdgespanTest::Gateway::sent;
    my @yes = grep { $gateway->record($_)->{sampled} } @asked;
    ok @yes > 0, 'some are sampled';
    is_deeply [map { $sent->($_, 'tracestate') } @yes], [('ot=th:8') x @yes], 'within the limit: th';
    is $sent->($parent, 'tracestate'), 'a=1,ot=th:8', "a caller's, too";
    is scalar(grep { $gateway->record($_)->{sampled} } @over), 0, 'then the limit refuses';
    my @limited = grep { $gateway->record($_)->{decision} =~ /^limit\b/ } @over;
    ok @limited > 0, 'because of the limit, as the log says';
    is_deeply [map { $sent->($_, 'tracestate') } @over, $refused], [(undef) x @over, 'a=1'], 'without th';
    like $sent->($_, 'traceparent'), qr/-0[02]$/, 'sampled=0 at the upstream' for @limited[0, -1], $refused;
    my @through = grep { $gateway->record($_)->{sampled} } @among;
    ok @through > 0, 'something gets through a limit that refuses';
    is_deeply [map { $sent->($_, 'tracestate') } @through], [(undef) x @through], 'without th';
    is_deeply [map { map { $_->{trace_state} } $gateway->spans($_) } @through], [('') x (2 * @through)],
        'in the spans, too';
    my $place = $gateway->place($gateway->kind eq 'nginx' ? 'otel_sample_limit 1r/m burst=50'
        : 'OtelSampleLimit 1r/m burst=50');
    is $gateway->record($limited[0])->{decision}, "limit ($place)", 'the log tells where it is';
    return;
}

my %variant = (nginx => [{}], httpd => [{mpm => 'event', threads => 8}, {mpm => 'prefork'}]);
for my $kind (split ' ', $ENV{KIND} // 'nginx httpd') {
    for my $variant (@{$variant{$kind}}) {
        my $name = join ' ', $kind, $variant->{mpm} // ();
        my $gateway = EdgespanTest::Gateway->new($kind, %config, %$variant, workers => 4);
        subtest "$name: a rate" => sub {
            rate($gateway, 'no caller', 'always_on_sampled');
            rate($gateway, 'sampled callers', 'parent_sampled', %sampled_parent)
                if ($variant->{mpm} // '') ne 'prefork';
            cmp_ok scalar(keys %{$gateway->tally('pid', '/free/')}), '>=', 4, 'over as many processes';
        };
        subtest "$name: budgets" => sub { budgets($gateway) };
        $gateway->finish;
    }
    my $gateway = EdgespanTest::Gateway->new($kind, %config);
    subtest "$kind: th" => sub { threshold($gateway) };
    $gateway->finish;
}
done_testing;
