package EdgespanTest::Jaeger;

# Turns a Batch of jaeger.thrift, in Thrift's binary protocol, into the span
# structures of EdgespanTest::Otlp. Tags become attrs with attr_types; `process`
# has the tags of the process.

use strict;
use warnings;

use Encode ();

# Thrift's type, read from the wire => what jaeger.thrift calls it.
my %TYPE = (2 => 'bool', 4 => 'double', 8 => 'i32', 10 => 'i64', 11 => 'string',
    12 => 'struct', 15 => 'list');

# struct => { field id => [name, type, required, struct of a list or struct] }
my %STRUCT = (
    Batch => { 1 => [ 'process', 'struct', 1, 'Process' ],
        2 => [ 'spans', 'list', 1, 'Span' ] },
    Process => { 1 => [ 'serviceName', 'string', 1 ], 2 => [ 'tags', 'list', 0, 'Tag' ] },
    Span => { 1 => [ 'traceIdLow', 'i64', 1 ], 2 => [ 'traceIdHigh', 'i64', 1 ],
        3 => [ 'spanId', 'i64', 1 ], 4 => [ 'parentSpanId', 'i64', 1 ],
        5 => [ 'operationName', 'string', 1 ],
        6 => [ 'references', 'list', 0, 'SpanRef' ], 7 => [ 'flags', 'i32', 1 ],
        8 => [ 'startTime', 'i64', 1 ], 9 => [ 'duration', 'i64', 1 ],
        10 => [ 'tags', 'list', 0, 'Tag' ], 11 => [ 'logs', 'list', 0, 'Log' ] },
    SpanRef => { 1 => [ 'refType', 'i32', 1 ], 2 => [ 'traceIdLow', 'i64', 1 ],
        3 => [ 'traceIdHigh', 'i64', 1 ], 4 => [ 'spanId', 'i64', 1 ] },
    Log => { 1 => [ 'timestamp', 'i64', 1 ], 2 => [ 'fields', 'list', 1, 'Tag' ] },
    Tag => { 1 => [ 'key', 'string', 1 ], 2 => [ 'vType', 'i32', 1 ],
        3 => [ 'vStr', 'string' ], 4 => [ 'vDouble', 'double' ], 5 => [ 'vBool', 'bool' ],
        6 => [ 'vLong', 'i64' ], 7 => [ 'vBinary', 'string' ] },
);
my @VALUE = qw(vStr vDouble vBool vLong vBinary);
my @VTYPE = qw(string double bool int bytes);

sub decode {
    my ($body) = @_;
    my $at = 0;
    my $batch = _struct(\$body, \$at, 'Batch');
    die 'Jaeger: ' . (length($body) - $at) . " bytes behind the batch\n"
        if $at != length $body;
    my ($process) = _tags($batch->{process}{tags});
    my %resource = (%$process, 'service.name' => _text($batch->{process}{serviceName}));
    return map { my $s = _span($_); $s->{resource} = \%resource; $s } @{ $batch->{spans} };
}

sub _take {
    my ($body, $at, $n) = @_;
    die "Jaeger: truncated\n" if $n < 0 || $$at + $n > length $$body;
    $$at += $n;
    return substr $$body, $$at - $n, $n;
}

sub _struct {
    my ($body, $at, $name) = @_;
    my %got;
    while (my $type = unpack 'C', _take($body, $at, 1)) {
        my $id = unpack 'n', _take($body, $at, 2);
        my $field = $STRUCT{$name}{$id} // die "Jaeger: no field $id in $name\n";
        my ($key, $want, undef, $of) = @$field;
        my $have = $TYPE{$type} // die "Jaeger: type $type\n";
        die "Jaeger: $name.$key is $have, not $want\n" if $have ne $want;
        die "Jaeger: $name.$key twice\n" if exists $got{$key};
        $got{$key} = _value($body, $at, $have, $of);
    }
    for my $field (values %{ $STRUCT{$name} }) {
        die "Jaeger: no $name.$field->[0]\n" if $field->[2] && !exists $got{ $field->[0] };
    }
    return \%got;
}

sub _value {
    my ($body, $at, $type, $of) = @_;
    return unpack 'C',  _take($body, $at, 1) if $type eq 'bool';
    return unpack 'd>', _take($body, $at, 8) if $type eq 'double';
    return unpack 'l>', _take($body, $at, 4) if $type eq 'i32';
    return unpack 'q>', _take($body, $at, 8) if $type eq 'i64';
    return _take($body, $at, unpack 'l>', _take($body, $at, 4)) if $type eq 'string';
    return _struct($body, $at, $of) if $type eq 'struct';
    my ($element, $count) = unpack 'Cl>', _take($body, $at, 5);
    die "Jaeger: a list of type $element\n" if $element != 12;
    return [ map { _struct($body, $at, $of) } 1 .. $count ];
}

sub _text { return Encode::decode('UTF-8', my $copy = $_[0], Encode::FB_CROAK) }

# (values, types)
sub _tags {
    my ($list) = @_;
    my (%value, %type);
    for my $tag (@{ $list // [] }) {
        my $key = _text($tag->{key});
        my $field = $VALUE[ $tag->{vType} ] // die "Jaeger: vType $tag->{vType}\n";
        my @set = grep { exists $tag->{$_} } @VALUE;
        die "Jaeger: tag $key of vType $field has @set\n" if "@set" ne $field;
        $type{$key} = $VTYPE[ $tag->{vType} ];
        $value{$key} = $field eq 'vStr' ? _text($tag->{vStr}) : $tag->{$field};
    }
    return (\%value, \%type);
}

sub _hex { return join '', map { unpack 'H16', pack 'q>', $_ } @_ }

sub _span {
    my ($j) = @_;
    my ($attrs, $types) = _tags($j->{tags});
    die "Jaeger: flags $j->{flags}\n" if $j->{flags} != 1;
    return {
        trace_id => _hex(@$j{qw(traceIdHigh traceIdLow)}), span_id => _hex($j->{spanId}),
        parent_span_id => $j->{parentSpanId} ? _hex($j->{parentSpanId}) : '',
        name => _text($j->{operationName}),
        kind => uc($attrs->{'span.kind'} // 'internal'),
        start => $j->{startTime} * 1000, end => ($j->{startTime} + $j->{duration}) * 1000,
        attrs => $attrs, attr_types => $types,
        status => { code => $attrs->{'otel.status_code'} // 'UNSET',
                    message => $attrs->{'otel.status_description'} // '' },
        events => [ map { { time => $_->{timestamp} * 1000,
            attrs => (_tags($_->{fields}))[0] } } @{ $j->{logs} // [] } ],
        links => [ map { { type => $_->{refType}, span_id => _hex($_->{spanId}),
            trace_id => _hex(@$_{qw(traceIdHigh traceIdLow)}) } }
            @{ $j->{references} // [] } ],
        raw => $j,
    };
}

1;
