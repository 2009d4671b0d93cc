<?php
// php import.php URL WAY FORMAT [NAME=VALUE …]: sends the vendor's example, changed by the fields given, reads the
// reply as clients do, and prints what it read: status, the counts and the codes, or the error.
error_reporting(E_ALL);
set_error_handler(fn ($number, $text) => error_reporting() & $number ? throw new ErrorException($text) : true);

require __DIR__ . '/example.php';
require __DIR__ . '/ways.php';

[, $url, $way, $format] = $argv;
foreach (array_slice($argv, 4) as $field) {
    [$name, $value] = explode('=', $field, 2);
    // A number where PHP programmers write one.
    $data[$name] = is_numeric($value) ? $value + 0 : $value;
}
if (getenv('ROWS')) {
    $data['Profiles_Data'] = file_get_contents(getenv('ROWS'));
}

if ($format === 'xml') {
    $reply = simplexml_load_string($way($url, $data));
    $read = ['status' => (string) $reply['status'], 'error' => (string) $reply->error];
    if ($reply->batch) {
        $read['batch'] = (string) $reply->batch['status'];
        $read['new'] = (int) $reply->batch->customers->new;
        $read['updated'] = (int) $reply->batch->customers->updated;
        $read['codes'] = [];
        foreach ($reply->batch->customers->customer as $customer) {
            $read['codes'][(int) $customer->row] = (string) $customer->code;
        }
    }
} else {
    $reply = json_decode($way($url, $data + ['output' => 'JSON']), true, 512, JSON_THROW_ON_ERROR);
    $read = ['status' => $reply['status'], 'error' => $reply['error'] ?? ''];
    if (isset($reply['batch'])) {
        $customers = $reply['batch']['customers'];
        $read['batch'] = $reply['batch']['status'];
        $read['new'] = (int) $customers['new'];
        $read['updated'] = (int) $customers['updated'];
        $read['codes'] = array_column($customers['customer'] ?? [], 'code', 'row');
    }
}
echo json_encode($read, JSON_FORCE_OBJECT), "\n";
