package EdgespanTest::Otlp;

# Turns OTLP requests into plain Perl span structures. Binary bodies go through
# protoc, so our encoder is never checked by code that shares its mistakes.

use strict;
use warnings;

use B ();
use Encode ();
use File::Temp ();
use JSON::PP ();
use MIME::Base64 qw(decode_base64);
use POSIX ();
use EdgespanTest ();

my $REQUEST = 'opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest';

# message => { JSON name => type }; '*' marks repeated fields.
my %SCHEMA = (
    Request => { resourceSpans => '*ResourceSpans' },
    ResourceSpans => { resource => 'Resource', scopeSpans => '*ScopeSpans',
        schemaUrl => 'string' },
    ScopeSpans => { scope => 'Scope', spans => '*Span',
        schemaUrl => 'string' },
    Resource => { attributes => '*KeyValue', entityRefs => '*EntityRef',
        droppedAttributesCount => 'int32' },
    EntityRef => { schemaUrl => 'string', type => 'string',
        idKeys => '*string', descriptionKeys => '*string' },
    Scope => { name => 'string', version => 'string',
        attributes => '*KeyValue', droppedAttributesCount => 'int32' },
    Span => { traceId => 'hex', spanId => 'hex', traceState => 'string',
        parentSpanId => 'hex', name => 'string', kind => 'kind',
        startTimeUnixNano => 'int64', endTimeUnixNano => 'int64',
        attributes => '*KeyValue', droppedAttributesCount => 'int32',
        events => '*Event', droppedEventsCount => 'int32',
        links => '*Link', droppedLinksCount => 'int32',
        status => 'Status', flags => 'int32' },
    Event => { timeUnixNano => 'int64', name => 'string',
        attributes => '*KeyValue', droppedAttributesCount => 'int32' },
    Link => { traceId => 'hex', spanId => 'hex', traceState => 'string',
        attributes => '*KeyValue', droppedAttributesCount => 'int32',
        flags => 'int32' },
    Status => { message => 'string', code => 'code' },
    KeyValue => { key => 'string', value => 'AnyValue' },
    AnyValue => { stringValue => 'string', boolValue => 'bool',
        intValue => 'int64', doubleValue => 'double',
        arrayValue => 'ArrayValue', kvlistValue => 'KeyValueList',
        bytesValue => 'base64' },
    ArrayValue   => { values => '*AnyValue' },
    KeyValueList => { values => '*KeyValue' },
);

my @KIND = map {"SPAN_KIND_$_"}
    qw(UNSPECIFIED INTERNAL SERVER CLIENT PRODUCER CONSUMER);
my @CODE = map {"STATUS_CODE_$_"} qw(UNSET OK ERROR);
my %KNOWN_ENUM = map { $_ => 1 } @KIND, @CODE;

# --- Binary -------------------------------------------------------------

# List of spans of one ExportTraceServiceRequest.
sub decode { return @{ (decode_many($_[0]))[0] } }

# One arrayref of spans per body. protoc is started once for many bodies:
# concatenated protobuf messages are one message with the lists joined.
sub decode_many {
    my @bodies = @_;
    my (@result, @group);
    my $size = 0;
    my $flush = sub {
        my @part = eval { _decode_group(@group) };
        if (my $error = $@) {
            die $error if @group == 1;
            # Once more one by one, to say which body is the bad one.
            @part = map {
                my $i = @result + $_;
                eval { _decode_group($group[$_]) } // die "body $i: $@";
            } 0 .. $#group;
        }
        push @result, @part;
        @group = ();
        $size = 0;
    };
    for my $body (@bodies) {
        # Bounded, since the text form is many times bigger.
        $flush->() if @group && $size + length $body > 2_000_000;
        push @group, $body;
        $size += length $body;
    }
    $flush->() if @group;
    return @result;
}

sub _decode_group {
    my @bodies = @_;
    # Counting also proves that each body ends on a field boundary, which
    # joining them would hide.
    my @counts = map { scalar(() = _fields($_, 0, length $_, 1)) / 2 } @bodies;
    my $tree = _parse_text(_protoc(join '', @bodies));
    my @all = @{ $tree->{resource_spans} || [] };
    my $want = 0;
    $want += $_ for @counts;
    die "protoc saw " . @all . " resource_spans instead of $want\n"
        if @all != $want;
    return map { [ map { _resource_spans($_) } splice @all, 0, $_ ] } @counts;
}

sub _protoc {
    my ($bytes) = @_;
    my $root = EdgespanTest::repo_root();
    my $in  = File::Temp->new;
    my $err = File::Temp->new;
    binmode $in;
    print {$in} $bytes;
    close $in or die "write: $!\n";
    my $pid = open my $out, '-|';
    die "fork: $!\n" unless defined $pid;
    if (!$pid) {
        open STDIN,  '<', $in->filename  or POSIX::_exit(126);
        open STDERR, '>', $err->filename or POSIX::_exit(126);
        no warnings 'exec';
        exec 'protoc', "--proto_path=$root/t", "--decode=$REQUEST",
            "$root/t/otlp.proto";
        POSIX::_exit(127);
    }
    my $text = do { local $/; <$out> };
    local ($?, $!);
    close $out;
    my $status = $?;
    my $message = EdgespanTest::slurp($err->filename) // '';
    # protoc only warns about invalid UTF-8 in a string.
    die "protoc --decode failed (status $status): $message\n"
        if $status || $message ne '';
    return $text // '';
}

my %ESCAPE = (n => "\n", r => "\r", t => "\t", a => "\a", b => "\b",
              f => "\f", v => "\x0b");

sub _unescape {
    my ($s) = @_;
    $s =~ s/\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))/
        defined $1 ? chr oct $1 : defined $2 ? chr hex $2
        : $ESCAPE{$3} \/\/ $3/gex if index($s, '\\') >= 0;
    return $s;
}

# Every field becomes an array; strings stay bytes until their type is known.
sub _parse_text {
    my ($text) = @_;
    my $top = {};
    my ($current, @stack) = ($top);
    for (split /\n/, $text) {
        if (/^\s*(\w+): "(.*)"$/) {
            push @{ $current->{$1} }, _unescape($2);
            next if $1 !~ /^\d/;
        }
        elsif (/^\s*\}$/) {
            $current = pop @stack or die "unbalanced protoc output\n";
            next;
        }
        elsif (/^\s*(\w+) \{$/) {
            push @stack, $current;
            push @{ $current->{$1} }, my $new = {};
            $current = $new;
            next if $1 !~ /^\d/;
        }
        elsif (/^\s*(\w+): (\S+)$/) {
            push @{ $current->{$1} }, $2;
            next if $1 !~ /^\d/;
        }
        else {
            die "cannot read protoc output line: $_\n";
        }
        die "unknown field in OTLP message: $_\n";
    }
    die "unbalanced protoc output\n" if @stack;
    return $top;
}

# (offset, length) pairs of the length-delimited fields numbered $want.
sub _fields {
    my ($buf, $pos, $end, $want) = @_;
    my @found;
    my $varint = sub {
        my ($value, $shift) = (0, 0);
        while ($pos < $end) {
            my $byte = ord substr $buf, $pos++, 1;
            $value |= ($byte & 0x7f) << $shift;
            return $value if $byte < 0x80;
            last if ($shift += 7) > 63;
        }
        die "truncated protobuf message\n";
    };
    while ($pos < $end) {
        my $tag = $varint->();
        my $type = $tag & 7;
        if ($type == 2) {
            my $length = $varint->();
            push @found, $pos, $length if $tag >> 3 == $want;
            $pos += $length;
        }
        elsif ($type == 0) { $varint->() }
        elsif ($type == 1) { $pos += 8 }
        elsif ($type == 5) { $pos += 4 }
        else               { die "protobuf wire type $type\n" }
        die "truncated protobuf message\n" if $pos > $end;
    }
    return @found;
}

# Hex span ids only, straight from the wire, for bodies with very many spans.
sub span_ids {
    my ($body) = @_;
    my @ids;
    my @resource = _fields($body, 0, length $body, 1);
    while (my ($ro, $rl) = splice @resource, 0, 2) {
        my @scope = _fields($body, $ro, $ro + $rl, 2);
        while (my ($so, $sl) = splice @scope, 0, 2) {
            my @span = _fields($body, $so, $so + $sl, 2);
            while (my ($o, $l) = splice @span, 0, 2) {
                # The usual field order needs no walk.
                if ($l > 28 && substr($body, $o, 2) eq "\x0a\x10"
                    && substr($body, $o + 18, 2) eq "\x12\x08") {
                    push @ids, unpack 'H16', substr $body, $o + 20, 8;
                    next;
                }
                my ($io, $il) = _fields($body, $o, $o + $l, 2);
                push @ids, defined $io
                    ? unpack 'H*', substr $body, $io, $il : '';
            }
        }
    }
    return @ids;
}

# --- JSON ---------------------------------------------------------------

# Spans of a file of OTLP-JSON lines; an unfinished last line is left alone,
# because the writer may be at work.
sub read_jsonl {
    my ($file) = @_;
    my $text = EdgespanTest::slurp($file) // return;
    return map { decode_json_body($_) } grep {/\S/} $text =~ /(.*)\n/g;
}

sub decode_json_body {
    my ($text) = @_;
    my $data = JSON::PP->new->utf8->allow_bignum(0)->decode($text);
    my $tree = _from_json('Request', $data);
    return map { _resource_spans($_) } @{ $tree->{resource_spans} || [] };
}

# The same tree as _parse_text makes, checked against the JSON mapping.
sub _from_json {
    my ($message, $data) = @_;
    die "$message: not an object\n" unless ref $data eq 'HASH';
    my %tree;
    for my $key (keys %$data) {
        my $type = $SCHEMA{$message}{$key}
            // die "unknown field in OTLP-JSON: $message.$key\n";
        my $repeated = $type =~ s/^\*//;
        my $value = $data->{$key};
        die "$message.$key: not an array\n"
            if $repeated && ref $value ne 'ARRAY';
        (my $name = $key) =~ s/([A-Z])/_\l$1/g;
        $tree{$name} = [ map {
            $SCHEMA{$type} ? _from_json($type, $_)
                           : _json_scalar("$message.$key", $type, $_)
        } $repeated ? @$value : ($value) ];
    }
    return \%tree;
}

sub _json_scalar {
    my ($where, $type, $value) = @_;
    my $fail = sub { die "$where: not a JSON $_[0]: " . ($value // 'null') . "\n" };
    if ($type eq 'bool') {
        JSON::PP::is_bool($value) or $fail->('boolean');
        return $value ? 'true' : 'false';
    }
    $fail->('scalar') if !defined $value || ref $value;
    my $is_string = B::svref_2object(\$value)->FLAGS & B::SVf_POK;
    if ($type eq 'double') {
        $fail->('double') if $is_string && $value !~ /^(?:NaN|-?Infinity)$/;
        return $value;
    }
    if ($type =~ /^(?:int32|kind|code)$/) {
        $fail->('integer') if $is_string || $value !~ /^\d+$/;
        return $value if $type eq 'int32';
        return ($type eq 'kind' ? \@KIND : \@CODE)->[$value] // $value;
    }
    $fail->('string') unless $is_string;
    if ($type eq 'int64') {
        $value =~ /^-?\d+$/ or $fail->('decimal string');
        return $value;
    }
    if ($type eq 'hex') {
        $value =~ /^(?:[0-9a-f]{2})*$/ or $fail->('lower-case hex string');
        return pack 'H*', $value;
    }
    return decode_base64($value) if $type eq 'base64';
    return Encode::encode('UTF-8', $value);
}

# --- Tree to spans ------------------------------------------------------

sub _text {
    my ($field) = @_;
    return '' unless $field;
    return Encode::decode('UTF-8', my $copy = $field->[-1], Encode::FB_CROAK);
}

sub _int { return $_[0] ? 0 + $_[0][-1] : 0 }

sub _id {
    my ($field, $what, @sizes) = @_;
    my $bytes = $field ? $field->[-1] : '';
    grep { length $bytes == $_ } @sizes
        or die "$what is " . length($bytes) . " bytes long\n";
    return unpack 'H*', $bytes;
}

sub _enum {
    my ($field, $prefix, $default) = @_;
    my $name = $field ? $field->[-1] : $prefix . $default;
    die "unknown enum value $name\n" unless $KNOWN_ENUM{$name};
    return substr $name, length $prefix;
}

# (value, type); an AnyValue with nothing set gives (undef, 'empty').
sub _any {
    my ($any) = @_;
    my ($field) = keys %$any or return (undef, 'empty');
    my $value = $any->{$field};
    return (_text($value), 'string') if $field eq 'string_value';
    return (0 + $value->[-1], 'int') if $field eq 'int_value';
    return ($value->[-1] eq 'true' ? 1 : 0, 'bool') if $field eq 'bool_value';
    return (0 + $value->[-1], 'double') if $field eq 'double_value';
    return ($value->[-1], 'bytes') if $field eq 'bytes_value';
    if ($field eq 'kvlist_value') {
        return ((_attrs($value->[-1]{values}))[0], 'kvlist');
    }
    my (@values, %types);
    for my $item (@{ $value->[-1]{values} || [] }) {
        my ($v, $t) = _any($item);
        push @values, $v;
        $types{$t} = 1;
    }
    return (\@values, (keys %types > 1 ? 'mixed' : (keys %types)[0] // '') . '[]');
}

# (attributes, their types, keys that came twice)
sub _attrs {
    my ($list) = @_;
    my (%attrs, %types, @dup);
    for my $kv (@{ $list || [] }) {
        my $key = _text($kv->{key});
        push @dup, $key if exists $attrs{$key};
        ($attrs{$key}, $types{$key}) = _any($kv->{value} ? $kv->{value}[-1] : {});
    }
    return (\%attrs, \%types, \@dup);
}

sub _resource_spans {
    my ($rs) = @_;
    my ($resource) = _attrs($rs->{resource} && $rs->{resource}[-1]{attributes});
    my @spans;
    for my $ss (@{ $rs->{scope_spans} || [] }) {
        my $s = $ss->{scope} ? $ss->{scope}[-1] : {};
        my $scope = { name => _text($s->{name}), version => _text($s->{version}),
                      attrs => (_attrs($s->{attributes}))[0] };
        for my $span (@{ $ss->{spans} || [] }) {
            my $out = _span($span);
            $out->{resource} = $resource;
            $out->{scope}    = $scope;
            $out->{schema_url} = _text($ss->{schema_url});
            $out->{resource_schema_url} = _text($rs->{schema_url});
            push @spans, $out;
        }
    }
    return @spans;
}

sub _span {
    my ($t) = @_;
    my ($attrs, $types, $dup) = _attrs($t->{attributes});
    my $status = $t->{status} ? $t->{status}[-1] : {};
    return {
        trace_id       => _id($t->{trace_id}, 'trace_id', 16),
        span_id        => _id($t->{span_id}, 'span_id', 8),
        parent_span_id => _id($t->{parent_span_id}, 'parent_span_id', 0, 8),
        trace_state    => _text($t->{trace_state}),
        name  => _text($t->{name}),
        kind  => _enum($t->{kind}, 'SPAN_KIND_', 'UNSPECIFIED'),
        start => _int($t->{start_time_unix_nano}),
        end   => _int($t->{end_time_unix_nano}),
        flags => _int($t->{flags}),
        attrs => $attrs, attr_types => $types, dup_keys => $dup,
        dropped_attributes_count => _int($t->{dropped_attributes_count}),
        dropped_events_count     => _int($t->{dropped_events_count}),
        dropped_links_count      => _int($t->{dropped_links_count}),
        events => [ map { {
            name => _text($_->{name}), time => _int($_->{time_unix_nano}),
            attrs => (_attrs($_->{attributes}))[0],
            dropped_attributes_count => _int($_->{dropped_attributes_count}),
        } } @{ $t->{events} || [] } ],
        links => [ map { {
            trace_id => _id($_->{trace_id}, 'link trace_id', 16),
            span_id  => _id($_->{span_id}, 'link span_id', 8),
            trace_state => _text($_->{trace_state}),
            flags => _int($_->{flags}),
            attrs => (_attrs($_->{attributes}))[0],
            dropped_attributes_count => _int($_->{dropped_attributes_count}),
        } } @{ $t->{links} || [] } ],
        status => { code => _enum($status->{code}, 'STATUS_CODE_', 'UNSET'),
                    message => _text($status->{message}) },
    };
}

# --- Diagnostics --------------------------------------------------------

# Rules every exported span has to keep; returns a list of complaints.
sub lint {
    my ($spans) = @_;
    my @bad;
    for my $s (@$spans) {
        my $who = "$s->{span_id} '$s->{name}'";
        push @bad, "$who: attribute key twice: @{ $s->{dup_keys} }"
            if @{ $s->{dup_keys} };
        push @bad, "$who: empty name" if $s->{name} eq '';
        push @bad, "$who: empty attribute key" if exists $s->{attrs}{''};
        push @bad, "$who: kind UNSPECIFIED" if $s->{kind} eq 'UNSPECIFIED';
        push @bad, "$who: all-zero id"
            if grep {/^0+$/} @$s{qw(trace_id span_id parent_span_id)};
        push @bad, "$who: ends before it starts" if $s->{end} < $s->{start};
        push @bad, "$who: no start time" unless $s->{start};
        push @bad, "$who: reserved flag bits set" if $s->{flags} & ~0x3ff;
        push @bad, "$who: status message without ERROR"
            if $s->{status}{code} ne 'ERROR' && $s->{status}{message} ne '';
        push @bad, _lint_ours($who, $s) if $s->{scope}{name} eq 'edgespan';
    }
    return @bad;
}

# What holds for our own spans, and need not for others.
sub _lint_ours {
    my ($who, $s) = @_;
    my ($status, $attrs) = ($s->{status}{code}, $s->{attrs});
    my @bad;
    # otel_compat: the module that it means has no error.type.
    my $before = exists $attrs->{'http.method'} && !exists $attrs->{'error.type'};
    push @bad, "$who: status $status, error.type " . ($attrs->{'error.type'} // 'absent')
        if ($status eq 'ERROR' xor defined $attrs->{'error.type'}) && !$before;
    my @times = grep {/^edgespan\.time\./} sort keys %$attrs or return @bad;
    push @bad, map {"$who: $_ is $attrs->{$_}"} grep { $attrs->{$_} <= 0 } @times;
    # What a request waited for makes up its time.
    my ($sum, $duration) = (0, ($s->{end} - $s->{start}) / 1e9);
    $sum += $attrs->{$_} for @times;
    push @bad, "$who: edgespan.time.* are $sum of $duration seconds"
        if $s->{kind} eq 'SERVER' && abs($sum - $duration) > 1e-6;
    return @bad;
}

# Rules about spans and those above them. Where all spans of some traces are there and
# came once ($complete), none may miss its parent, and ids differ.
sub lint_traces {
    my ($spans, $complete) = @_;
    my (@bad, %by_id);
    for my $s (@$spans) {
        push @bad, "$s->{span_id} '$s->{name}': this id twice" if $complete && $by_id{ $s->{span_id} };
        $by_id{ $s->{span_id} } = $s;
    }
    for my $s (grep { $_->{kind} ne 'SERVER' } @$spans) {
        my $who = "$s->{kind} $s->{span_id} '$s->{name}'";
        my $parent = $by_id{ $s->{parent_span_id} };
        if (!$parent) {
            push @bad, "$who: no parent" if $complete;
            next;
        }
        push @bad, "$who: not of its parent's trace" if $s->{trace_id} ne $parent->{trace_id};
        push @bad, "$who: a CLIENT span above" if $parent->{kind} eq 'CLIENT';
        push @bad, "$who: begins before its parent" if $s->{start} < $parent->{start};
        # Nobody waits for what goes on in the background.
        my $above = $s;
        $above = $by_id{ $above->{parent_span_id} }
            while $above && !$above->{attrs}{'edgespan.background'};
        push @bad, "$who: ends after its parent" if !$above && $s->{end} > $parent->{end};
    }
    return @bad;
}

1;
