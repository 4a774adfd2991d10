package EdgespanTest::Zipkin;

# Turns Zipkin's JSON (version 2) into the span structures of EdgespanTest::Otlp,
# strictly by its schema. Tags become attrs, as they are; `raw` is the span itself.

use strict;
use warnings;

use B ();
use JSON::PP ();

my $hex16 = sub { $_[0] =~ /^[0-9a-f]{16}$/ && $_[0] !~ /^0+$/ };
my $trace = sub { $_[0] =~ /^[0-9a-f]{32}$/ && $_[0] !~ /^0+$/ };
my $any   = sub {1};

sub _is_string { return B::svref_2object(\$_[0])->FLAGS & B::SVf_POK }

# name => [type, check, required]
my %SPAN = (
    traceId => [ 'string', $trace, 1 ], id => [ 'string', $hex16, 1 ],
    parentId => [ 'string', $hex16 ], name => [ 'string', sub { $_[0] ne '' }, 1 ],
    kind => [ 'string', sub { $_[0] =~ /^(?:CLIENT|SERVER|PRODUCER|CONSUMER)$/ } ],
    timestamp => [ 'int', sub { $_[0] > 1e15 }, 1 ],
    duration => [ 'int', sub { $_[0] >= 1 }, 1 ],
    localEndpoint => [ 'endpoint', $any, 1 ], remoteEndpoint => [ 'endpoint', $any ],
    tags => [ 'tags', $any ], annotations => [ 'annotations', $any ],
);
my %ENDPOINT = (
    serviceName => [ 'string', sub { $_[0] ne '' } ],
    ipv4 => [ 'string', sub { $_[0] =~ /^\d+(?:\.\d+){3}$/ } ],
    ipv6 => [ 'string', sub { $_[0] =~ /:/ } ],
    port => [ 'int', sub { $_[0] >= 1 && $_[0] <= 65535 } ],
);
my %ANNOTATION = (
    timestamp => [ 'int', sub { $_[0] > 1e15 }, 1 ], value => [ 'string', $any, 1 ],
);

sub _check {
    my ($where, $rules, $object) = @_;
    die "$where: not an object\n" unless ref $object eq 'HASH';
    die "$where: empty\n" unless %$object;
    for my $key (keys %$object) {
        my ($type, $ok) = @{ $rules->{$key} // die "$where: unknown member $key\n" };
        my $value = $object->{$key};
        if ($type eq 'endpoint') { _check("$where.$key", \%ENDPOINT, $value) }
        elsif ($type eq 'tags') {
            die "$where.tags: empty\n" unless ref $value eq 'HASH' && %$value;
            for (keys %$value) {
                die "$where.tags.$_: not a string\n"
                    if ref $value->{$_} || !_is_string($value->{$_});
            }
        }
        elsif ($type eq 'annotations') {
            die "$where.annotations: empty\n" unless ref $value eq 'ARRAY' && @$value;
            _check("$where.annotations", \%ANNOTATION, $_) for @$value;
        }
        else {
            die "$where.$key: not a $type\n" if !defined $value || ref $value
                || ($type eq 'string' xor _is_string($value));
            die "$where.$key: $value\n" unless $ok->($value);
        }
    }
    for (grep { $rules->{$_}[2] } keys %$rules) {
        die "$where: no $_\n" unless exists $object->{$_};
    }
    return;
}

sub decode {
    my ($body) = @_;
    my $spans = JSON::PP->new->utf8->decode($body);
    die "Zipkin: not an array\n" unless ref $spans eq 'ARRAY';
    return map { _span($_) } @$spans;
}

sub _span {
    my ($z) = @_;
    _check('Zipkin span', \%SPAN, $z);
    my $tags = $z->{tags} // {};
    return {
        trace_id => $z->{traceId}, span_id => $z->{id},
        parent_span_id => $z->{parentId} // '', name => $z->{name},
        kind => $z->{kind} // 'INTERNAL',
        start => $z->{timestamp} * 1000,
        end => ($z->{timestamp} + $z->{duration}) * 1000,
        attrs => $tags,
        resource => { 'service.name' => $z->{localEndpoint}{serviceName} },
        status => { code => $tags->{'otel.status_code'} // 'UNSET',
                    message => $tags->{error} // '' },
        events => [ map { { time => $_->{timestamp} * 1000, text => $_->{value} } }
            @{ $z->{annotations} // [] } ],
        raw => $z,
    };
}

1;
