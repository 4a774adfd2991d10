# The adaptive sampler while the load goes up and down tenfold, in both servers at the
# same time. prove -v prints the curve.

use strict;
use warnings;

use List::Util qw(sum0);
use Test::More;
use Time::HiRes qw(time);

use EdgespanTest;
use EdgespanTest::Gateway;
use EdgespanTest::Load;

# A second's count is random: of 50 it is 50 +- 7, of 250 in five seconds 250 +- 16.
# The sampler's own estimate of the load varies likewise. 30 % is more than four
# standard deviations of what it is measured by.
use constant {TARGET => 50, LOW => 100, HIGH => 1000, WITHIN => 0.3};
my @phases = ([LOW, 12], [HIGH, 15], [LOW, 15]);

my @kinds = split ' ', $ENV{KIND} // 'nginx httpd';
my %gateway = map {
    $_ => EdgespanTest::Gateway->new($_, workers => 2,
        served => ['/load/' => 'otel_sample_target ' . TARGET . 'r/s;',
            '/bounded/' => 'otel_sample_target 1r/s min=20% max=40%;'],
        proxied => ['/up/' => 'otel_sample_target 5r/s;'])
} @kinds;
my @ports = map { $gateway{$_}->port } @kinds;

# A reload in the middle of the high load changes nothing. A slow machine takes longer
# for a phase.
my @begin;
for my $i (0 .. $#phases) {
    push @begin, time;
    paced(\@ports, '/load/f', [ $phases[$i] ], sub {
        return if $phases[$i][0] != HIGH;
        sleep 8;
        $gateway{$_}->server->reload for @kinds;
    });
}
push @begin, time;

for my $kind (@kinds) {
    my $gateway = $gateway{$kind};
    $gateway->settle;
    my @records = sort { $a->{at} <=> $b->{at} } $gateway->records(qr{ /load/});
    my $begin = $records[0]{at};
    my (@asked, @sampled);
    for (@records) {
        my $second = int($_->{at} - $begin);
        $asked[$second]++;
        $sampled[$second] += $_->{sampled};
    }
    note "$kind: second, requests, sampled";
    note sprintf '%6d %9d %8d  %s', $_, $asked[$_] // 0, $sampled[$_] // 0, '#' x (($sampled[$_] // 0) / 5)
        for 0 .. $#asked;

    cmp_ok scalar(keys %{$gateway->tally('pid', '/load/')}), '>=', 2, "$kind: by two processes";
    for my $i (0 .. $#phases) {
        my $rate = $phases[$i][0];
        my ($from, $to) = ($begin[$i] + ($i ? 10 : 8), $begin[ $i + 1 ]);
        my @late = grep { $_->{at} >= $from && $_->{at} < $to } @records;
        my ($asked, $mean) = map { $_ / ($to - $from) } scalar @late, sum0(map { $_->{sampled} } @late);
        cmp_ok abs($mean - TARGET), '<=', WITHIN * TARGET,
            sprintf '%s: at %d r/s (meant: %d), %.1f are sampled in a second', $kind, $asked, $rate, $mean;
    }
    my $spans = grep { $_->{attrs}{'url.path'} eq '/load/f' } $gateway->collector->spans(kind => 'SERVER');
    is $spans, sum0(map { $_ // 0 } @sampled), "$kind: that many spans have arrived";
}

# Its bounds, and what it tells of itself.
paced(\@ports, '/bounded/f', [[1000, 5]]);
for my $kind (@kinds) {
    my $gateway = $gateway{$kind};
    my $of = $gateway->tally(sampled => '/bounded/');
    my $share = $of->{1} / ($of->{0} + $of->{1});
    # It begins with the maximum.
    cmp_ok $share, '>', 0.17, "$kind: not below min: $share";
    cmp_ok $share, '<', 0.43, "$kind: not above max: $share";
    my @asked = map { $gateway->ask('/up/') } 1 .. 40;
    $gateway->settle;
    my @odd = grep {
        my ($decision, $sampled) = @{$gateway->record($_)}{qw(decision sampled)};
        my $state = EdgespanTest::Gateway::sent($_, 'tracestate') // '';
        my @spans = $gateway->spans($_);
        $sampled ? $decision !~ /^target=[0-9.]+ / || $state !~ /^ot=th:[0-9a-f]+$/
                || grep { $_->{trace_state} ne $state } @spans
            : $decision !~ /^drop target=[0-9.]+ / || $state ne '' || @spans;
    } @asked;
    is_deeply [map { $gateway->record($_)->{decision} } @odd], [], "$kind: th and the decision say the probability";
    $gateway->finish;
}
done_testing;
