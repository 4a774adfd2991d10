# Services with OpenTelemetry's Go and Python SDKs before and behind the gateway: one
# trace, one decision, one Collector.

use strict;
use warnings;
use Test::More;
use EdgespanTest;
use EdgespanTest::Interop;
use EdgespanTest::InteropChain;
use EdgespanTest::InteropCollector;

my $collector = EdgespanTest::InteropCollector->new->start;

# The environment of a service that decides about the traces that begin with it.
sub root_ratio {
    return (OTEL_TRACES_SAMPLER => 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG => $_[0]);
}

# One test for each kind of gateway: $requests makes requests, $check looks at their
# traces when all that there will ever be of them is at the Collector.
sub scenario {
    my ($what, $options, $requests, $check) = @_;
    for my $kind (@SERVERS) {
        subtest "$kind, $what" => sub {
            my $chain = eval { EdgespanTest::InteropChain->new($kind, $collector, %$options) };
            ok($chain, 'all start') or return diag $@;
            $requests->($chain);
            $chain->finish;
            $check->($chain, $kind);
        };
    }
    return;
}

# One test: every request is one trace, which is recorded as a whole or not at all.
sub all_whole {
    my ($chain) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @traces = $chain->traces;
    my @faults = map { $chain->fault($_) } @traces;
    my $sampled = grep { $_->{hops}[0]{sampled} } @traces;
    return is(join("\n", @faults), '',
        @traces . " requests, $sampled sampled: whole traces or none") || diag $chain->log;
}

# One test: so many of the traces are sampled. By chance it fails once in 15,000 times
# (four standard deviations).
sub share {
    my ($chain, $p) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @traces = $chain->traces;
    my $sampled = grep { $_->{hops}[0]{sampled} } @traces;
    my $off = abs $sampled - @traces * $p;
    return cmp_ok $off, '<=', 4 * sqrt(@traces * $p * (1 - $p)),
        "about $p of them: $sampled of " . @traces;
}

# --- Ids, in every format that both SDKs have ---------------------------------

# Twice through the gateway, and in both directions until each service has sampled a
# trace and has not.
sub every_way {
    my ($chain) = @_;
    $chain->call('/go', '/python');
    for my $way ([ 'go', '/python' ], [ 'python', '/go' ]) {
        my %seen;
        for (1 .. 100) {
            $seen{ $chain->call(@$way)->{hops}[0]{sampled} } = 1;
            last if keys %seen == 2;
        }
        is keys %seen, 2, "$way->[0] first: some sampled, some not";
    }
    return;
}

sub all_whole_and_shown {
    my ($chain) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    all_whole($chain);
    my %one = map { $_->{line} => $_->{id} } grep { $_->{hops}[0]{sampled} } $chain->traces;
    note $chain->tree($one{$_}) for sort keys %one;
    return;
}

for my $format (qw(tracecontext b3 b3multi jaeger xray)) {
    scenario($format, {
        directives => ["otel_propagators $format"],
        env => { OTEL_PROPAGATORS => $format, root_ratio(0.5) },
    }, \&every_way, \&all_whole_and_shown);
}

scenario('Go speaks b3multi, Python tracecontext', {
    directives => ['otel_propagators b3multi tracecontext'],
    env => { root_ratio(0.5) },
    go => { OTEL_PROPAGATORS => 'b3multi' },
    python => { OTEL_PROPAGATORS => 'tracecontext' },
}, \&every_way, \&all_whole_and_shown);

# --- One decision ---------------------------------------------------------------

# Is a trace sampled at this threshold (56 bits, 14 digits)?
sub over { return substr($_[0]{id}, 18) ge $_[1] }

# The gateway's own decision: services that would have decided otherwise follow.
scenario('the gateway begins', {
    directives => ['otel_sample_rate 50%'],
    env => { root_ratio(0.1) },
}, sub {
    my ($chain) = @_;
    $chain->call('/go', 'python') for 1 .. 400;
}, sub {
    my ($chain) = @_;
    all_whole($chain);
    share($chain, 0.5);
    my @wrong = grep {
        my $sampled = over($_, '80000000000000');
        my $state = $sampled ? 'ot=th:8' : '';
        grep { $_->{sampled} != $sampled || $_->{tracestate} ne $state } @{ $_->{hops} };
    } $chain->traces;
    is @wrong, 0, 'by the trace id, and both services know with what probability'
        or diag explain $wrong[0];
});

scenario('a service begins', {
    directives => ['otel_sample_rate 90%'],
    env => { root_ratio(0.3) },
}, sub {
    my ($chain) = @_;
    $chain->call('go', '/python') for 1 .. 200;
    $chain->call('python', '/go') for 1 .. 200;
}, sub {
    my ($chain) = @_;
    all_whole($chain);
    share($chain, 0.3);
});

# --- Decisions that agree ---------------------------------------------------------

# Of the two SDKs only Python's has OpenTelemetry's consistent probability sampling, which
# the gateway's traceidratio is: random bits that are large are sampled. Both SDKs' own
# traceidratio samples those that are small, and of 64 bits instead of 56; by the
# specification nothing can be said of how it goes together with others, so nothing is
# tested.
sub consistent {
    return (OTEL_TRACES_SAMPLER => 'consistent_traceidratio', OTEL_TRACES_SAMPLER_ARG => $_[0]);
}

scenario('each decides alone, at one rate', {
    directives => [ 'otel_sampler traceidratio', 'otel_sample_rate 30%' ],
    python => { consistent(0.3) },
}, sub {
    my ($chain) = @_;
    $chain->call('python', '/go') for 1 .. 100;
    $chain->call('/python', 'go') for 1 .. 100;
}, sub {
    my ($chain) = @_;
    all_whole($chain);
    share($chain, 0.3);
});

scenario('each decides alone, at its own rate', {
    directives => [ 'otel_sampler traceidratio', 'otel_sample_rate 25%' ],
    python => { consistent(0.5) },
}, sub {
    my ($chain) = @_;
    $chain->call('go', '/python') for 1 .. 100;
}, sub {
    my ($chain, $kind) = @_;
    my @faults;
    for my $trace ($chain->traces) {
        my $want = join ' ', over($trace, 'c0000000000000')
                ? ("Edge-$kind CLIENT", "Edge-$kind SERVER") : (),
            'go CLIENT', 'go SERVER', over($trace, '80000000000000') ? 'python SERVER' : ();
        my $found = join ' ', sort map {"$_->{service} $_->{kind}"} $chain->spans($trace->{id});
        push @faults, "$trace->{id}: $found" if $found ne $want;
    }
    is join("\n", @faults), '', 'what the lower rate samples, the higher one does';
});

# The service takes nobody's word: it looks whether the trace id is over the threshold
# that the gateway wrote.
scenario('a threshold is understood', {
    directives => ['otel_sample_rate 30%'],
    python => { OTEL_TRACES_SAMPLER => 'parentbased_consistent_traceidratio',
        OTEL_TRACES_SAMPLER_ARG => 1 },
}, sub {
    my ($chain) = @_;
    $chain->call('/python', 'go') for 1 .. 100;
}, sub {
    my ($chain) = @_;
    all_whole($chain);
    my %states = map { $_->{tracestate} => 1 } map { @{ $_->{hops} } } $chain->traces;
    is_deeply [ sort keys %states ], [ '', 'ot=th:b333' ], 'and passed on';
});

# --- Baggage ------------------------------------------------------------------------

scenario('baggage', {
    directives => ['otel_baggage_allow tenant place'],
}, sub {
    my ($chain) = @_;
    $chain->call('go?baggage=tenant%3Dacme,secret%3Dx,place%3DK%25C3%25B6ln%2520S%25C3%25BCd',
        '/python');
    $chain->call('python?baggage=tenant%3Dacme,secret%3Dx', '/go');
}, sub {
    my ($chain) = @_;
    all_whole($chain);
    my ($go_first, $python_first) =
        map { [ map { $_->{baggage} } @{ $_->{hops} } ] } $chain->traces;
    my %allowed = (tenant => 'acme', place => "K\x{f6}ln S\x{fc}d");
    is_deeply $go_first, [ { %allowed, secret => 'x' }, \%allowed ], 'what is allowed arrives'
        or diag explain $go_first;
    is_deeply $python_first, [ { tenant => 'acme', secret => 'x' }, { tenant => 'acme' } ],
        'also the other way' or diag explain $python_first;
});

# --- Callers that are not believed ----------------------------------------------------

for my $trust (qw(off link)) {
    scenario("trust $trust", {
        directives => ["otel_trust_context $trust"],
    }, sub {
        my ($chain) = @_;
        $chain->call('go?baggage=tenant%3Dacme', '/python');
    }, sub {
        my ($chain, $kind) = @_;
        my ($trace) = $chain->traces;
        my ($id, $other) = map { $_->{trace_id} } @{ $trace->{hops} };
        is $chain->line($id), 'go SERVER, go CLIENT', 'the trace of the caller';
        is $chain->line($other), "Edge-$kind SERVER, Edge-$kind CLIENT, python SERVER",
            'and the one that the gateway began';
        my ($client) = grep { $_->{kind} eq 'CLIENT' } $chain->spans($id);
        my @links = map { @{ $_->{links} } } $chain->spans($other);
        is_deeply [ map { [ @$_{qw(trace_id span_id)} ] } @links ],
            [ $trust eq 'link' ? [ $id, $client->{span_id} ] : () ], 'links';
        is_deeply $trace->{hops}[1]{baggage}, {}, 'no baggage';
        note map { $chain->tree($_) } $id, $other;
    });
}

# --- Kept at the end --------------------------------------------------------------------

scenario('an error is kept', {
    directives => [ 'otel_sample_rate 0', 'otel_sample_keep error' ],
}, sub {
    my ($chain) = @_;
    $chain->call('/go', 'python');
    $chain->call('/go?status=500', 'python');
}, sub {
    my ($chain, $kind) = @_;
    my ($good, $bad) = $chain->traces;
    is_deeply [ map { $_->{sampled} ? 1 : 0 } map { @{ $_->{hops} } } $good, $bad ], [ (0) x 4 ],
        'the services were told not to sample';
    is $chain->line($good->{id}), '', 'a good request: nothing';
    is $bad->{status}, 500, 'an error';
    is $chain->line($bad->{id}), "Edge-$kind SERVER, Edge-$kind CLIENT", 'the gateway\'s spans';
    my ($client, $server) = sort { $a->{kind} cmp $b->{kind} } $chain->spans($bad->{id});
    is_deeply [ $server->{sampled}, $client->{sampled} ], [ 0, 0 ], 'sampled=0 in their flags';
    is $server->{attrs}{'edgespan.sampling.reason'}, 'error', 'why they are there';
    note $chain->tree($bad->{id});
});

$collector->finish;

done_testing;
