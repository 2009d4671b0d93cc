<?php
// The vendor's own example, word for word (page "Batch Import Customers", April 2022).
$data['API'] = '1.5';
$data['user_id'] = 'john1970';
$data['user_api_key'] = '1959caadac9b13dcb3';
$data['account_id'] = 'greatwidgets';
$data['type'] = 'customers_batch';
$data['delimiter'] = 'pipe';
$data['overwrite_duplicates'] = 'update';
$data['campaigns_to_include'] = '898989889|,|13234545|,|34534554';
$data['profiles_header_1'] = 'code';
$data['profiles_header_2'] = 'card_number';
$data['profiles_header_3'] = 'first_name';
$data['profiles_header_4'] = 'last_name';
$data['profiles_header_5'] = 'custome_date';
$data['profiles_header_6'] = 'phone';
$data['Profiles_Data'] = '
11223344|11223344|jane|doe|1970-07-14|555-5555
22334455|22334455|jim|mcdoe|1966-07-28|555-5556
33445566|33445566|larry|smith|1980-02-05|555-5557
';
